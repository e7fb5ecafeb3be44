#!/bin/sh
# jq: path and score of the photos in the best tenth
# usage: scores.sh PHOTOS "INSTRUCTION"
set -eu
rankclip rank "$1" "$2" --json | jq -r 'select(.percentile >= 90) | [.score, .path] | @tsv'

#!/bin/sh
# exiftool: give the best tenth five stars (this changes the photos: try it on copies)
# usage: rate.sh PHOTOS "INSTRUCTION"
set -eu
rankclip rank "$1" "$2" --min-percentile 90 --print0 | xargs -0 -r exiftool -q -overwrite_original -Rating=5 --

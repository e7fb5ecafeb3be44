#!/bin/sh
# fd: rank only files that changed within a year
# usage: only_this_year.sh PHOTOS "INSTRUCTION"
set -eu
fd --changed-within 1y --type f --print0 . "$1" | rankclip rank --files-from - --null "$2"

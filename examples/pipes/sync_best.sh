#!/bin/sh
# rsync: send the best 100 to another disk or machine, paths kept
# usage: sync_best.sh PHOTOS "INSTRUCTION" TARGET
set -eu
cd "$1"
rankclip rank . "$2" --top 100 --print0 | rsync -a --from0 --files-from=- ./ "$3"

#!/bin/sh
# xargs -0: copy the 20 best into a folder, whatever their names hold
# usage: best_to_folder.sh PHOTOS "INSTRUCTION" FOLDER
set -eu
mkdir -p "$3"
rankclip rank "$1" "$2" --top 20 --print0 | xargs -0 -r cp -p -t "$3"

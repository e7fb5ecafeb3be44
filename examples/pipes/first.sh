#!/bin/sh
# head: the single best photo; rankclip ends quietly when head has read enough
# usage: first.sh PHOTOS "INSTRUCTION"
set -eu
rankclip rank "$1" "$2" | head -n 1

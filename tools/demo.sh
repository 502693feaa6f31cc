#!/bin/sh
# Distil ten images of scikit-learn's digits, measure them beside ten random ones, and say where the picture lies.
set -eu

store=${DEMO:-demo-store}
apmctl distill digits --ipc 1 --store "$store"
# The same command again finds what it made; --quiet prints its name alone.
ref=$(apmctl distill digits --ipc 1 --store "$store" --quiet)
echo
apmctl eval "$ref" --store "$store"
echo
echo "The images: $(apmctl show "$ref" --store "$store" --quiet)/preview.png"

#!/bin/sh
# Distil ten images of scikit-learn's digits, measure them beside ten real ones, draw both, and say what to try next.
set -eu

store=${DEMO:-demo-store}
case $store in /*) home=$store ;; *) home=$PWD/$store ;; esac
picture=$store/digits-ipc1.png

cat <<END

Ten images, one a class, will be distilled from 1,438 handwritten digits of 8x8 pixels. Networks that are trained on
them alone, and others on ten real images, are then tested on 359 other digits. It takes about a minute on two CPU
cores and writes to $store alone.

END
apmctl distill digits --ipc 1 --store "$store"
# The same command again finds what it made; --quiet prints its name alone.
ref=$(apmctl distill digits --ipc 1 --store "$store" --quiet)
echo
apmctl eval "$ref" --store "$store"
python tools/picture.py "$ref" --store "$store" --out "$picture"

cat <<END

"distilled": accuracy of networks trained on the ten distilled images; "random": on ten real images, labelled in the
same way. ± is the standard deviation over networks, not over sets.

  $picture    the ten images below ten real ones

To try next:
  export PATH="$(dirname "$(command -v apmctl)"):\$PATH" APMCTL_HOME="$home"
  apmctl show digits-ipc1                       how it was made
  apmctl distill digits --ipc 10                ten images a class: about 3 minutes
  apmctl distill FOLDER --ipc 5 --dry-run       your own images, a folder for each class: what it would take
  apmctl presets                                settings for CIFAR-10, CIFAR-100, Tiny ImageNet and ImageNet-1K
  make clean                                    removes $store
END

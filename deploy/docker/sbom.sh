#!/bin/sh
# What is in an image: FOLDER/python.cdx.json (CycloneDX, made when the image was built) and FOLDER/debian.tsv (name and
# version of every Debian package of its base).
#   sbom.sh IMAGE FOLDER
set -eu
if [ $# -ne 2 ]; then
  echo "usage: $0 IMAGE FOLDER" >&2
  exit 2
fi
image=$1
folder=$2
mkdir -p "$folder"
inside() { # FILE COMMAND [ARGUMENT…]: runs the command in the image, its output becomes the file when it succeeded
  file=$1
  shift
  entry=$1
  shift
  docker run --rm --network none --read-only --cap-drop ALL --entrypoint "$entry" "$image" "$@" >"$folder/$file.new"
  mv "$folder/$file.new" "$folder/$file"
}
inside python.cdx.json cat /opt/session-mgmt/sbom.cdx.json
inside debian.tsv dpkg-query -W

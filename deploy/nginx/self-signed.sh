#!/bin/sh
# A certificate for trying: FOLDER/tls.crt and FOLDER/tls.key, for NAME and this machine, valid for a year. What is there
# stays. Clients have to be told to trust tls.crt; for real use take one of an authority (ACME).
#   self-signed.sh FOLDER [NAME]
set -eu
if [ $# -lt 1 ] || [ $# -gt 2 ]; then
  echo "usage: $0 FOLDER [NAME]" >&2
  exit 2
fi
folder=$1
name=${2:-localhost}
case $name in
*[!A-Za-z0-9.-]* | "")
  echo "$0: not a host name: $name" >&2
  exit 2
  ;;
esac
if [ -e "$folder/tls.crt" ] || [ -e "$folder/tls.key" ]; then
  echo "$folder/tls.crt or tls.key is there already; nothing was changed"
  exit 0
fi
mkdir -p "$folder"
new=$(mktemp -d "$folder/.new.XXXXXX")
trap 'rm -rf "$new"' EXIT
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj "/CN=$name" \
  -addext "subjectAltName=DNS:$name,DNS:localhost,IP:127.0.0.1,IP:::1" -addext "basicConstraints=critical,CA:FALSE" \
  -addext "keyUsage=critical,digitalSignature" -addext "extendedKeyUsage=serverAuth" \
  -keyout "$new/tls.key" -out "$new/tls.crt" 2>/dev/null
chmod 0600 "$new/tls.key"
chmod 0644 "$new/tls.crt"
mv "$new/tls.key" "$folder/tls.key"
mv "$new/tls.crt" "$folder/tls.crt"
echo "made $folder/tls.crt for $name"

#!/usr/bin/env bash
# Makes key.pem, certificate.pem (of the years 2020 to 2120) and expired.pem (of 2020), all for localhost, with OpenSSL 3.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
: >"$work/index"
cat >"$work/config" <<EOF
[ca]
default_ca = ca
[ca]
database = $work/index
new_certs_dir = $work
serial = $work/serial
default_md = sha256
policy = policy
x509_extensions = extensions
[policy]
commonName = supplied
[extensions]
basicConstraints = critical, CA:FALSE
subjectAltName = DNS:localhost
EOF
openssl ecparam -name prime256v1 -genkey -noout -out key.pem
openssl req -new -key key.pem -subj "/CN=Edgeling test" -out "$work/request"
sign() { # file, last day
    : >"$work/index"
    openssl ca -batch -notext -create_serial -selfsign -config "$work/config" -keyfile key.pem -in "$work/request" \
        -startdate 20200101000000Z -enddate "$2" -out "$1"
}
sign certificate.pem 21200101000000Z
sign expired.pem 20210101000000Z

#!/bin/sh
# Writes the login of the service to the auth_file, which is in memory because the container is read-only, and runs
# PgBouncer. Compose can't write the file: it refuses configs and secrets with inline content in read-only containers.
set -eu
umask 077
printf '"holdfast" "%s"\n' "${SERVICE_PASSWORD:?}" > "${USERLIST:-/run/pgbouncer/userlist.txt}"
exec pgbouncer "${1:-/etc/pgbouncer/pgbouncer.ini}"

#!/bin/sh
# Run a command after reading secrets from files: PLATFORM_X_FILE=/run/secrets/x sets PLATFORM_X to the file's content.
set -eu
for name in $(env | sed -n 's/^\(\(PLATFORM\|MLFLOW\)_[A-Z_]*\)_FILE=.*/\1/p'); do
    eval "file=\$${name}_FILE"
    value=$(cat "$file")
    export "$name=$value"
    unset "${name}_FILE"
done
exec "$@"

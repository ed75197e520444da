#!/bin/sh
# Starts the agent of a container, as the device WATTBED_DEVICE with its state in WATTBED_STATE.
#
# Without WATTBED_DEVICE it is the first of its kind that is free: KIND-1, KIND-2, ..., or KIND-HOST-1 with
# WATTBED_HOST. The replicas of a service share a volume, and each holds the lock of one folder there as long as it
# lives, so a container that is made anew is the same device with the same state, and no two are one.
set -eu
if [ -z "${WATTBED_DEVICE:-}" ]; then
    name=${WATTBED_KIND:?not set}${WATTBED_HOST:+-$WATTBED_HOST}
    number=1
    while exec 9>"/var/lib/wattbed/$name-$number.lock" && ! flock --nonblock 9; do
        number=$((number + 1))
    done
    export WATTBED_DEVICE="$name-$number"
    export WATTBED_STATE="/var/lib/wattbed/$WATTBED_DEVICE"
fi
exec python3 -m edge_agent "$@"

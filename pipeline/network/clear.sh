#!/bin/sh
# Takes a segment away: what still runs in its namespaces, them, the links that lead to it, and the bridge $1.
for space in /run/netns/"$1"-*; do
    [ -e "$space" ] || continue
    name=${space##*/}
    for process in $(ip netns pids "$name"); do kill -KILL "$process"; done
    ip netns del "$name"
    rm -rf "/etc/netns/$name"
done
for link in /sys/class/net/"$1".* /sys/class/net/"$1"-*; do
    [ ! -e "$link" ] || ip link del "${link##*/}" 2> /dev/null # the other end of one that is gone by now
done
[ ! -e "/sys/class/net/$1" ] || ip link del "$1"

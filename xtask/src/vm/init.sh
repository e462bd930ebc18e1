#!/bin/busybox sh
# The first process of a guest: makes a machine of it, runs the tests, says how they ended, and switches it off.
# The kernel's messages go to the first serial port, the tests' to the second.
/bin/busybox --install -s /bin
export PATH=/bin HOME=/tmp
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
exec </dev/null >/dev/ttyS1 2>&1
ip link set lo up
for module in /modules/*.ko; do
	insmod "$module"
done
mount -t cgroup2 cgroup2 /sys/fs/cgroup
for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
	echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
done
echo 16 >/proc/sys/vm/nr_hugepages

export OBSERVER_BIN=/guest/observer OBSERVER_FIXTURES=/fixtures OBSERVER_CACHE=/tmp/cache OBSERVER_REQUIRE=1
uname -a
# shellcheck disable=SC2046 # each word is an argument
/guest/e2e $(cat /guest/arguments)
echo "guest: exit status $?"
poweroff -f

#!/bin/busybox sh
# The first process of a guest: makes a machine of it, and runs the tests.
/bin/busybox --install -s /bin
export PATH=/bin
if [ -x /lib/systemd/systemd ]; then
	# It makes the machine itself, and the tests are one of its services.
	exec /lib/systemd/systemd --unit=guest.service --log-target=kmsg --log-level=notice
fi
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
ip link set lo up
for module in /modules/*.ko; do
	insmod "$module"
done
mount -t cgroup2 cgroup2 /sys/fs/cgroup
for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
	echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
done
echo 16 >/proc/sys/vm/nr_hugepages
exec /bin/sh /guest/tests.sh

# Runs the tests in a guest, says how they ended, and switches the guest off. The kernel's messages go to the first
# serial port, the tests' to the second.
exec </dev/null >/dev/ttyS1 2>&1
export PATH=/bin HOME=/tmp
export OBSERVER_BIN=/guest/observer OBSERVER_FIXTURES=/fixtures OBSERVER_CACHE=/tmp/cache OBSERVER_REQUIRE=1
uname -a
# shellcheck disable=SC2046 # each word is an argument
/guest/e2e $(cat /guest/arguments)
echo "guest: exit status $?"
poweroff -f

#!/usr/bin/env bash
# What a worker pod runs: an sshd on port 2222 that lets in the leader's key alone, by which mpirun starts ranks.
set -euo pipefail
mkdir -p ~/sshd
# A copy that is ours alone: sshd refuses keys that others may read.
install -m 0600 /etc/fulger-ssh/host_ed25519 ~/sshd/host_ed25519
exec /usr/sbin/sshd -D -e -p 2222 -h ~/sshd/host_ed25519 -o PidFile=none -o UsePAM=no -o PasswordAuthentication=no \
  -o StrictModes=no -o AuthorizedKeysFile=/etc/fulger-ssh/authorized_keys -o AllowTcpForwarding=no -o X11Forwarding=no

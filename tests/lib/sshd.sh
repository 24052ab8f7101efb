# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# A real sshd on a host of the lab, with keys and configuration of its own, and an ssh that knows it. Nothing of the
# machine's own ssh is read or changed.

# start_sshd HOST ADDRESS: root may log in with the key that this makes; $ssh_config is for ssh -F
start_sshd() {
	keys=$SHARED/ssh
	ssh_config=$keys/config
	if [ ! -d "$keys" ]; then
		mkdir -m 700 "$keys"
		ssh-keygen -q -t ed25519 -N '' -f "$keys/host"
		ssh-keygen -q -t ed25519 -N '' -f "$keys/user"
		cat >"$ssh_config" <<-CONFIG
			User root
			IdentityFile $keys/user
			IdentitiesOnly yes
			UserKnownHostsFile $keys/known_hosts
			GlobalKnownHostsFile /dev/null
			StrictHostKeyChecking yes
			LogLevel ERROR
		CONFIG
		# PAM lets root in where its password is locked, as Debian has it by default.
		cat >"$keys/sshd_config" <<-CONFIG
			HostKey $keys/host
			AuthorizedKeysFile $keys/user.pub
			StrictModes no
			PasswordAuthentication no
			KbdInteractiveAuthentication no
			PermitRootLogin yes
			UsePAM yes
			PidFile none
			UseDNS no
			PrintMotd no
		CONFIG
	fi
	echo "$2 $(cat "$keys/host.pub")" >>"$keys/known_hosts"
	"$HOSTS" on "$1" mkdir -p -m 755 /run/sshd
	"$HOSTS" start "$1" "$keys/sshd-$1.log" /usr/sbin/sshd -D -e -f "$keys/sshd_config" -o "ListenAddress=$2" >/dev/null
	wait_until "$HOSTS" on "$1" ssh -F "$ssh_config" "$2" true
}

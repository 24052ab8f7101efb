# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# prefork.pl ADDRESS: a pre-fork echo server. Five children accept at one socket, under a lock (flock); each ends after 500
# connections, and its parent makes another one, as such servers do.
use strict;
use warnings;
use Fcntl ':flock';
use IO::Socket::INET;
use POSIX ();

my ($address, $folder) = @ARGV;
my $server = IO::Socket::INET->new(LocalAddr => $address, LocalPort => 7000, Listen => 64, ReuseAddr => 1, Proto => 'tcp')
	or die "listen: $!";
my %children;

sub serve {
	my $connection = shift;
	while (sysread($connection, my $bytes, 65536)) {
		my $at = 0;
		while ($at < length $bytes) {
			my $n = syswrite($connection, $bytes, length($bytes) - $at, $at);
			die "write: $!" unless defined $n;
			$at += $n;
		}
	}
}

sub be_child {
	open(my $lock, '>', "$folder/lock") or die "lock: $!";
	for (1 .. 500) {
		flock($lock, LOCK_EX) or die "flock: $!";
		my $connection = $server->accept() or die "accept: $!";
		flock($lock, LOCK_UN) or die "unlock: $!";
		serve($connection);
		close($connection);
	}
	POSIX::_exit(0);
}

sub make_child {
	my $pid = fork();
	die "fork: $!" unless defined $pid;
	be_child() if $pid == 0;
	$children{$pid} = 1;
}

make_child() for 1 .. 5;
while ((my $pid = wait()) > 0) {
	delete $children{$pid};
	print "child $pid ended with $?\n" if $?;
	make_child();
}
print "wait: $!\n";

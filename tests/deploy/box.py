"""A network and a root of their own for programs under test. Takes root."""

import ctypes
import fcntl
import os
import socket
import struct
import subprocess


def is_permitted():
    """Whether this process may make a network namespace; some sandboxes that tests run in take that right even from root."""
    return subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode == 0


class Box:
    """What a container runtime makes of an image: its tree as the root, its user with no other groups, a network of its own whose loopback
    is up. In there its ports are free, and nobody outside sees them."""

    CLONE_NEWNET = 0x40000000

    def __init__(self, root, user, group):
        self.root, self.user, self.group = root, user, group
        self.libc = ctypes.CDLL(None, use_errno=True)
        # Made by a process that does nothing but hold it.
        self.holder = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=self._new_network)
        self.network = os.open(f"/proc/{self.holder.pid}/ns/net", os.O_RDONLY)

    def _new_network(self):
        self._must(self.libc.unshare(self.CLONE_NEWNET))
        with socket.socket() as any_socket:
            # SIOCSIFFLAGS: IFF_UP | IFF_RUNNING.
            fcntl.ioctl(any_socket, 0x8914, struct.pack("16sH14x", b"lo", 0x41))

    def _must(self, result):
        if result != 0:
            raise OSError(ctypes.get_errno(), "the network namespace: this takes root")

    def start(self, command, environment):
        def enter():
            self._must(self.libc.setns(self.network, self.CLONE_NEWNET))
            os.chroot(self.root)
            os.chdir("/")
            os.setgroups([])
            os.setgid(self.group)
            os.setuid(self.user)

        return subprocess.Popen(
            command, env=environment, preexec_fn=enter, pass_fds=[self.network],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )

    def close(self):
        os.close(self.network)
        self.holder.communicate()


def end(process):
    if process.poll() is None:
        process.kill()
    process.communicate()

"""The internet that the other tests stand on: who reaches whom, and who does not."""

from __future__ import annotations

import sys

LISTEN = """
import socketserver

class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while heard := self.request.recv(100):
            print(heard.decode(), flush=True)
            self.request.sendall(heard)

with socketserver.ThreadingTCPServer(("0.0.0.0", 7000), Echo) as server:
    print("listening", flush=True)
    server.serve_forever()
"""
"""Says back what it hears."""

SAY = """
import socket, sys
address, text, num_times, patience = sys.argv[1:]
try:
    with socket.create_connection((address, 7000), timeout=float(patience)) as connection:
        for _ in range(int(num_times)):
            try:
                connection.sendall(text.encode())
                print(connection.recv(100).decode(), flush=True)
            except TimeoutError:
                print("silence", flush=True)
except OSError as error:
    print(type(error).__name__)
"""
"""Says a text so many times, and what came back in time."""

PATIENCE = "60"
"""Seconds, for who must be heard: on a busy machine that takes a while."""

SILENCE = "0.5"
"""Seconds, for who must not be."""


def listen(host):
    program = host.popen([sys.executable, "-c", LISTEN])
    assert program.line() == "listening"
    return program


def say(host, address, text="hello", patience=PATIENCE):
    return host.run([sys.executable, "-c", SAY, address, text, "1", patience]).stdout.strip()


def is_silent(host, address):
    return say(host, address, patience=SILENCE) == "TimeoutError"


def test_routers_let_in_only_what_was_asked_for(internet):
    public, other = internet.host("public"), internet.host("other")
    alice, bob = internet.home("alice"), internet.home("bob")
    pc, laptop, far = alice.host("pc"), alice.host("laptop"), bob.host("pc")
    assert pc.address == far.address, "homes are alike"
    for host in (public, pc, far):
        listen(host)
    assert say(other, public.address) == "hello"
    assert say(pc, public.address) == "hello"
    assert say(laptop, pc.address, "at home") == "at home"
    assert pc.programs[0].line() == "at home"
    assert is_silent(public, alice.router.address)
    assert is_silent(public, pc.address)
    assert is_silent(far, alice.router.address)
    alice.forward(7000, pc)
    assert say(far, alice.router.address, "through the door") == "through the door"
    assert pc.programs[0].line() == "through the door"


def test_a_machine_without_its_cable_is_silent(internet):
    """No reset, no "unreachable": nobody tells that it is away; and it can come back."""
    public, pc = internet.host("public"), internet.home("alice").host("pc")
    listen(public)
    for unplugged in (public, pc):
        talk = pc.popen([sys.executable, "-c", SAY, public.address, "hello", "1000000", SILENCE])
        assert talk.line() == "hello"
        unplugged.unplug()
        while (heard := talk.line()) == "hello":
            pass
        assert heard == "silence"
        assert is_silent(pc, public.address)
        unplugged.plug()
        while talk.line() == "silence":
            pass
        talk.kill()

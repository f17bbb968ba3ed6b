"""Counts: `add N` adds to the count of the session and replies it, `get` replies it.

The contract is in wit/odeum-actor.wit: what a guest may ask of its host, and what it has.
"""

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.guest import Message, Message_Call
from wit_world.imports import host

EXPECTED = "expected `add N` or `get`"


class Guest(exports.Guest):
    def on_start(self) -> None:
        host.log(host.Level.INFO, "started")

    def on_message(self, message: Message) -> None:
        """What it sets is kept, and the caller gets the reply, when this returns; after an `Err`
        nothing of it is."""
        if not isinstance(message, Message_Call):
            return
        count = int((host.get_variable("count") or b"0").decode())
        match message.value.decode(errors="replace").split():
            case ["add", number]:
                try:
                    count += int(number)
                except ValueError:
                    raise Err(EXPECTED) from None
                host.set_variable("count", str(count).encode())
            case ["get"]:
                pass
            case _:
                raise Err(EXPECTED)
        host.reply(str(count).encode())

    def on_timer(self, timer: int) -> None:
        pass

    def on_stop(self) -> None:
        pass

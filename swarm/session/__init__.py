"""What both ends of a session's edge share: the history of what was sent, and sending it again.

A route is a chain: the client, then hops, then the client again. Each link of the chain keeps what
it has sent on (`history`) and a cursor for what its successor holds (`feed`). Ordinary forwarding
and recovery are then the same act: send what lies beyond the cursor.
"""

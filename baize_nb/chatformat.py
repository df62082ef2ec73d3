"""What a model really reads: one text in which marks say who speaks.

Knows: the marks around messages, and how to leave a user message open. Does not know: endpoints, or what is said.
Built in notebook 02.
"""

import re
from typing import NamedTuple

from . import transcript


class ChatFormat(NamedTuple):
    """The marks that a chat template writes around the contents of messages.

    system    : before the persona; None where the template has no place for one.
    user      : before the first user message (after the persona, if there is one).
    assistant : between a user message and the assistant's.
    next_user : between an assistant's message and the next user message.
    """

    system: str | None
    user: str
    assistant: str
    next_user: str

    def open_user_header(self, messages):
        """`messages` (persona first, an assistant's message last) as the model reads them, and an opened user message.

        Contents cannot pass for marks: see `transcript.escape`.
        """
        persona, *talk = messages
        text = "" if self.system is None else self.system + transcript.escape(persona["content"], markers=False)
        text += self.user
        for i, message in enumerate(talk):
            text += transcript.escape(message["content"], markers=False) + (self.next_user if i % 2 else self.assistant)
        return text

    @property
    def stop(self):
        """Marks that end a message, as a list of none or one."""
        return re.findall(r"<[^<>\s]+>", self.assistant)[:1]


# The embedded model's own format, and that of many others.
CHATML = ChatFormat(
    system="<|im_start|>system\n",
    user="<|im_end|>\n<|im_start|>user\n",
    assistant="<|im_end|>\n<|im_start|>assistant\n",
    next_user="<|im_end|>\n<|im_start|>user\n",
)

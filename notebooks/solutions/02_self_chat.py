"""Solutions of notebook 02, one function per exercise."""


def requests(turns):
    """Every answer costs a request, and every question but the first, which is the seed."""
    return turns + (turns - 1)


def trim(text):
    """Everything up to and with the last mark that has white space, or nothing, behind it."""
    for i in reversed(range(len(text))):
        if text[i] in ".!?" and not text[i + 1 : i + 2].strip():
            return text[: i + 1]
    return ""


def human_request(prompt, seed_text, messages):
    """One user message: the prompt, with the topic and the chat so far in it."""
    names = {"user": "[Human]", "assistant": "[AI]"}
    talk = "\n".join(f"{names[m['role']]} {m['content']}" for m in messages)
    return [{"role": "user", "content": prompt.replace("{seed}", seed_text).replace("{transcript}", talk)}]


def parse(text):
    """Messages of a transcript; a last question without an answer is dropped."""
    roles = {"[Human]": "user", "[AI]": "assistant"}
    messages = []
    for line in text.splitlines():
        marker = next((m for m in roles if line.startswith(m)), None)
        if marker:
            messages.append({"role": roles[marker], "content": line[len(marker) :].strip()})
        elif messages:
            messages[-1]["content"] += "\n" + line
    if messages and messages[-1]["role"] == "user":
        messages.pop()
    return messages

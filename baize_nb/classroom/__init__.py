"""One teacher for a whole room: an OpenAI-compatible endpoint with a key and a token budget for each student.

    accounts.py    who may ask, and what each has used
    turns.py       whose request is next: fair shares
    requests.py    what may be asked, and refusals in the form that OpenAI's clients read
    upstream.py    the teacher behind it: the embedded model, or the endpoint and key of the instructor
    server.py      HTTP

Run by `make teacher`, or `python -m baize_nb.classroom --help`. Students never see the instructor's key.
"""

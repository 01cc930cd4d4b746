"""The copier's service. Packages, from the top; each may import those below it.

- ``app``: connects everything; ``store_admin``: copies of the job store, for a person
- ``web``: HTTP in, status out; ``adapters``: one outside system, one file
- ``engine``: the order of a job's steps, the scheduler, waits for outcomes, and the ports
- ``contract``: messages that come in and go out
- ``settings``: the environment
- ``domain``: jobs and the decisions about them; pure
- ``logs``: one line of JSON for each event
"""

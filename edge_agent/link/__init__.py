"""Emulated links: tc in the agent's own namespace, a relay for what the kernel lacks, traces over time.

docs/links.md says what emulates what and how exact it is.
"""

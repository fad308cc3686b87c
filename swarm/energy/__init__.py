"""What computing costs in joules: read where the machine tells, estimated where it does not.

Reading is apart from policy: `rapl`, `nvml`, `hwmon` and `apple` say what has been drawn,
`apportion` whose that was, `account` what follows for a peer. What is measured, what is apportioned
and how wrong that may be stands in docs/energy.md.
"""

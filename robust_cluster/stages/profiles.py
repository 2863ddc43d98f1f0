"""Names of the profiles, without torch: each method's file gives its own values for them in `PROFILES`."""

LABELS = {
    "smoke": "toy networks and schedules: shows that the chain works, no more",
    "short": "small head and attacker, 400 to 500 steps a stage at batch 100: convolutional networks on a CPU",
    "cpu": "small networks, 2,000 to 2,500 steps a stage at batch 300",
    "paper": "published sizes and schedules",
}
PROFILES = tuple(LABELS)

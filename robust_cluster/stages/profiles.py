"""Names of the profiles, without torch: each method's file gives its own values for them in `PROFILES`."""

PROFILES = ("smoke", "cpu", "paper")
LABELS = {
    "smoke": "short schedule and small networks: shows that the chain works, no more",
    "cpu": "reduced: small head and attacker, 2,000 to 2,500 steps a stage at batch 300",
    "paper": "published sizes and schedules",
}

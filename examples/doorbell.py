"""Which backbone can a battery-powered doorbell afford? The numbers behind doorbell.md."""

import costmodel as cm

DEVICE = "rpi-zero2w"
LATENCY_BUDGET_S = 0.1
LIFE_BUDGET_DAYS = 365
BATTERY_WH = 18.5  # one 5,000 mAh lithium cell at 3.7 V
INFERENCES_PER_HOUR = 100  # the motion sensor wakes the board 20 times for 5 frames
ASLEEP_W = 0.001  # motion sensor and wake-up circuit; the board itself is off
NETWORKS = ("timm:resnet50", "timm:mobilenetv3_small_100")

print(f"{'network':26} {'dtype':5} {'latency':>9} {'energy':>9} {'battery':>9}  verdict")
for network in NETWORKS:
    for dtype in ("fp32", "int8"):
        report = cm.analyze(network, hw=DEVICE, dtype=dtype)
        prediction = report.prediction
        hours = cm.battery_hours(
            prediction.energy_j,
            capacity_wh=BATTERY_WH,
            per_hour=INFERENCES_PER_HOUR,
            idle_w=ASLEEP_W,
        )
        late = prediction.latency_s > LATENCY_BUDGET_S
        empty = hours / 24 < LIFE_BUDGET_DAYS
        verdict = " and ".join(["too slow"] * late + ["too hungry"] * empty) or "fits"
        print(
            f"{network:26} {dtype:5} {prediction.latency_s * 1e3:6.0f} ms "
            f"{prediction.energy_j * 1e3:6.0f} mJ {hours / 24:4.0f} days  {verdict}"
        )

"""Trace-and-count time beside fvcore and FlopCounterMode: one process a tool, medians.

    python benchmarks/speed.py [--repeat 7] [MODEL …]

Times are of the CPU, on one thread, with the model built beforehand on the meta device. A second
table says what importing the tool costs first; a third traces a decoder of Llama 3's 405 billion
parameters. The report is ``benchmarks/speed.md``.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPORT = Path(__file__).with_suffix(".md")
MODELS = ("resnet50", "efficientnet_b0", "vit_base_patch16_224", "swin_tiny_patch4_window7_224")
TOOLS = ("costmodel", "FlopCounterMode", "fvcore")
#: Grattafiori et al. 2024, "The Llama 3 Herd of Models", table 3.
LLAMA = {
    "vocab_size": 128256, "hidden_size": 16384, "intermediate_size": 53248,
    "num_hidden_layers": 126, "num_attention_heads": 128, "num_key_value_heads": 8,
    "use_cache": False,
}  # fmt: skip


def counter(tool: str) -> Callable[[Any, Any], int]:
    """A function from a model and its input to MACs; importing happens here."""
    if tool == "costmodel":
        from costmodel.table import cost
        from costmodel.tracer import trace

        return lambda model, x: int(cost(trace(model, (x,))).total.macs)
    if tool == "FlopCounterMode":
        import torch
        from torch.nn.attention import SDPBackend, sdpa_kernel
        from torch.utils.flop_counter import FlopCounterMode

        def count(model: Any, x: Any) -> int:
            with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
                with FlopCounterMode(display=False) as mode:
                    model(x)
                return mode.get_total_flops() // 2

        return count
    from fvcore.nn import FlopCountAnalysis

    def analyse(model: Any, x: Any) -> int:
        found = FlopCountAnalysis(model, x).unsupported_ops_warnings(False)
        return int(found.uncalled_modules_warnings(False).total())

    return analyse


def measure(tool: str, names: list[str], repeat: int) -> dict[str, Any]:
    """What one process finds: seconds to import, and per model seconds and MACs."""
    import torch

    torch.set_num_threads(1)
    started = time.process_time()
    count = counter(tool)
    result: dict[str, Any] = {"import": time.process_time() - started}
    from costmodel.targets import load, torchvision_shim

    torchvision_shim.install()
    import timm

    for name in names:
        device = "cpu" if tool == "fvcore" else "meta"  # it cannot trace tensors without data
        model = (
            timm.create_model(name) if tool == "fvcore" else load(f"timm:{name}").module
        ).eval()
        x = torch.zeros(1, 3, 224, 224, device=device)
        times = []
        for _ in range(repeat + 1):
            started = time.process_time()
            macs = count(model, x)
            times.append(time.process_time() - started)
        result[name] = {"first": times[0], "median": statistics.median(times[1:]), "macs": macs}
    return result


def llama() -> dict[str, Any]:
    """The 405B decoder: seconds to build, trace and count, and the process's peak memory."""
    import torch

    from costmodel.targets import torchvision_shim
    from costmodel.targets.huggingface import assume_plain_sequences

    torchvision_shim.install()
    from transformers import LlamaConfig, LlamaForCausalLM

    from costmodel.table import cost
    from costmodel.tracer import trace

    times = [time.perf_counter()]
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**LLAMA)).eval()
    assume_plain_sequences()
    times.append(time.perf_counter())
    total = cost(trace(model, (torch.empty(1, 2048, dtype=torch.int64, device="meta"),))).total
    times.append(time.perf_counter())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    return {"build": times[1] - times[0], "trace": times[2] - times[1], "gib": peak,
            "macs": total.macs, "params": total.params}  # fmt: skip


def child(*arguments: str) -> dict[str, Any]:
    """Run this file in a process of its own and read the JSON on its last line."""
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def report(results: dict[str, dict[str, Any]], names: list[str], big: dict[str, Any]) -> str:
    """The measurements as Markdown."""
    lines = [
        "# How long tracing and counting take",
        "",
        "Written by `make bench`: CPU seconds on one thread, median of repeated calls, one process",
        "a tool, model and input on the meta device; on the CPU for fvcore, which cannot trace",
        "tensors without data. Attention is decomposed for FlopCounterMode.",
        "",
        "| model | " + " | ".join(TOOLS) + " | costmodel ÷ FlopCounterMode |",
        "|---|" + "---|" * (len(TOOLS) + 1),
    ]
    for name in names:
        times = [results[tool][name]["median"] for tool in TOOLS]
        cells = " | ".join(f"{t:.3f} s" for t in times)
        lines.append(f"| {name} | {cells} | {times[0] / times[1]:.2f} |")
    lines += ["", "| | " + " | ".join(TOOLS) + " |", "|---|" + "---|" * len(TOOLS)]
    imports = [results[tool]["import"] for tool in TOOLS]
    firsts = [results[tool][names[0]]["first"] for tool in TOOLS]
    both = [a + b for a, b in zip(imports, firsts, strict=True)]
    for what, row in (("import, after torch", imports), ("import and first model", both)):
        lines.append(f"| {what} | " + " | ".join(f"{t:.2f} s" for t in row) + " |")
    lines += [
        "",
        f"A decoder of Llama 3's 405B shape ({big['params']:,} parameters), 2,048 tokens,",
        f"{big['macs']:,} MACs: built in {big['build']:.1f} s, traced and counted in",
        f"{big['trace']:.1f} s (wall clock), {big['gib']:.2f} GiB at most.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=list(MODELS))
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--tool", choices=TOOLS, help="measure one tool in this process")
    parser.add_argument("--llama", action="store_true", help="measure the large decoder here")
    options = parser.parse_args()
    if options.llama:
        print(json.dumps(llama()))
    elif options.tool:
        print(json.dumps(measure(options.tool, options.models, options.repeat)))
    else:
        shared = [*options.models, "--repeat", str(options.repeat)]
        results = {tool: child("--tool", tool, *shared) for tool in TOOLS}
        text = report(results, options.models, child("--llama"))
        REPORT.write_text(text)
        print(text)


if __name__ == "__main__":
    main()

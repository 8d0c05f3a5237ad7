"""Speed, memory and arithmetic of whole pipelines, side by side in one process, and what each figure includes.

    words ─ catalogue ─► Candidate ─ .work(Workload) ─► Work: `infer`, and the same path once more as `stages`
                                                          │
    all works and a matrix product take turns, round by round (rounds.py) ─► BenchmarkResult ─► table, JSON, HTML

The way of one image, and the names of its parts everywhere:

    part         from → to
    decode       JPEG file → (3, H, W) uint8, by the package's own `read_image` for all
    preprocess   → (B, 3, h, w) float on the device: resize to the shown size, copy, normalise, pad
    backbone     → the trunk as far as it runs without queries
    head         → class and mask logits: pyramid, pixel decoder, queries, late blocks, decoder, heads
    network      backbone and head, where they cannot be told apart (an exported file: preprocess and readout, too)
    readout      → (B, H, W) uint8 labels at the frame's size, on the host
    draw         → the overlay, a picture
    infer        preprocess … readout in one call, as production runs them: host to host
    end to end   decode + infer + draw, one after the other, as `queryseg predict` does for one image, without writing

- `Candidate` (candidate.py): a run or recipe (`SegmenterCandidate`), an exported file (`ExportedCandidate`), the bare
  backbone (`BareBackbone`: timm's own forward on a normalised image that is already on the device), Hugging Face's
  models with their own image processors (hugging_face.py), a timm network under a light head (`LightNetwork`).
- `find_candidates` (catalogue.py) makes them of the words of the command line; `ladder.py` holds the six arms.
- Every round runs every work once, in an order of its own, Python's garbage collector rests, and rounds
  before the times have settled do not count. A ratio is the median over rounds of the round's own ratio, so what
  slows a whole round down cancels; its spread is the interquartile range of these ratios.
- `infer` and `stages` are timed separately: between stages the device is waited for, which costs overlap. Both the
  sum of the stages and the end-to-end time are shown. Compiled graphs have no stages; theirs are counted, not timed.
- FLOPs are counted by torch while the stages run: matrix products, convolutions, attention; 2 per multiply–add. What
  costs no such operation (resizing, sampling, norms, softmax, arg max) costs time all the same: that is what "× limit"
  shows, the time over that of the same FLOPs in one large matrix product, which takes its turn in every round.
- Memory is weights and the peak of what one inference allocates: on CUDA the allocator's, on the CPU that of all live
  tensors (live_memory.py). The image itself, libraries and Python are left out.
- Sweeps time `infer` at other sizes and batches in the same rounds; the scaling exponent is the least-squares slope of
  log time over log pixels (or images), per round, then the median over rounds.

`benchmark(...)` is the Python twin of `queryseg benchmark`.
"""

from queryseg.benchmarking.bench import benchmark
from queryseg.benchmarking.benchmark_result import BenchmarkResult, Settings
from queryseg.benchmarking.candidate import Candidate, Stage, Work
from queryseg.benchmarking.catalogue import Options, find_candidates
from queryseg.benchmarking.workload import Workload

__all__ = [
    "BenchmarkResult",
    "Candidate",
    "Options",
    "Settings",
    "Stage",
    "Work",
    "Workload",
    "benchmark",
    "find_candidates",
]

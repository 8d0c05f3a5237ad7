"""Models as files for other runtimes, each compared with the original before it is called good.

    run ─ adapters merged, position tables fixed ─ trace ─ ExportFormat.convert ─ save in a hidden folder
        ─ open again ─ parity gate ─► FILE with its record   or   FILE.rejected and one sentence

- `export_model` (exporter.py) does all of it; `queryseg export` is its command line.
- `ExportFormat` (export_format.py) is what a file format offers: `TorchFormat` (.pt2), `OnnxFormat` (.onnx),
  `OpenVinoFormat` (.xml with .bin), `TensorRtFormat` (.engine with .engine.json; not run yet).
- int8 is OpenVINO's: `calibration` chooses the images, `quantization` says which layers stay in float.
- The graph takes uint8 (B, 3, H, W) RGB and gives uint8 labels (B, H, W), and float scores (B, K, H, W) if asked for;
  normalisation, padding to whole patches and argmax are inside.
- `ExportRecord` is what a file says of itself: classes, protocol, size, precision, weights, versions, parity.
- `load_exported` gives a Predictor of a file alone; `queryseg.load` calls it by the file's suffix.
- `parity_gate` compares labels, scores and mIoU, data set by data set (parity_gate.py has the limits).
"""

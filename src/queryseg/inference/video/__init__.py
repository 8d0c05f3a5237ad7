"""Video: decode, prepare, infer, draw and encode at the same time. Start with `video_prediction`."""

from __future__ import annotations

from queryseg.inference.video.frame_source import ArraySource, Frame, FrameSource, is_video
from queryseg.inference.video.pipeline import Pipeline, Stage
from queryseg.inference.video.smoothing import ScoreSmoothing
from queryseg.inference.video.video_prediction import VideoFrame, VideoPrediction, VideoStatistics
from queryseg.inference.video.video_source import VideoSource
from queryseg.inference.video.video_writer import VideoWriter

__all__ = [
    "ArraySource",
    "Frame",
    "FrameSource",
    "Pipeline",
    "ScoreSmoothing",
    "Stage",
    "VideoFrame",
    "VideoPrediction",
    "VideoSource",
    "VideoStatistics",
    "VideoWriter",
    "is_video",
]

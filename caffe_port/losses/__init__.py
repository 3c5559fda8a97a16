"""Losses with two paths each: torch, which is the reference, and fused Triton kernels."""

from caffe_port.losses.feedback import FeedbackLoss, FeedbackOptions, feedback_loss
from caffe_port.losses.softmax import softmax_loss

__all__ = ["FeedbackLoss", "FeedbackOptions", "feedback_loss", "softmax_loss"]

"""Types that a stored model may consist of; a file with any other one is not opened."""

from __future__ import annotations

TRUSTED_TYPES = (
    # Beyond the public estimators of scikit-learn, which skops trusts. Data and estimators only: no function,
    # nor `functools.partial`, for those are called when the model is used. Trees hold indices that nobody checks
    # against their bounds; that they were not altered, the digest says.
    "numpy.dtype",
    "platform_assets.models.calibration.CalibratedEstimator",
    "platform_assets.models.number_estimators.NumberColumns",
    "platform_assets.models.text_estimators.CompactTfidf",
    "platform_assets.models.text_estimators.TextCleaner",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
    "sklearn.gaussian_process.kernels.ConstantKernel",
    "sklearn.gaussian_process.kernels.Matern",
    "sklearn.gaussian_process.kernels.Product",
    "sklearn.gaussian_process.kernels.RBF",
    "sklearn.gaussian_process.kernels.Sum",
    "sklearn.gaussian_process.kernels.WhiteKernel",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.tree._tree.Tree",
)
"""Types that a model may consist of, by their full names."""
STABLE_MODULES = (
    "platform_assets.models.calibration",
    "platform_assets.models.number_estimators",
    "platform_assets.models.text_estimators",
)
"""Modules whose classes artefacts name by path; one moves only with an entry in `base/moved_modules.py`."""

"""Types that an artefact may contain; an artefact with any other type is not loaded."""

from __future__ import annotations

TRUSTED_TYPES = (
    # skops already trusts scikit-learn's public estimators. List only data types and estimators. Functions and
    # `functools.partial` must not be listed, because loading a file would call them. scikit-learn does not check that
    # the indices in a tree are in bounds. Trees are safe to load only because the digest of the file is verified.
    "numpy.dtype",
    "platform_assets.models.calibration.CalibratedEstimator",
    "platform_assets.models.interval_regressor.IntervalRegressor",
    "platform_assets.models.number_estimators.NumberColumns",
    "platform_assets.models.relative_regression.RelativeRegression",
    "platform_assets.models.row_limit.LimitedRows",
    "platform_assets.models.text_estimators.CompactTfidf",
    "platform_assets.models.text_estimators.SentenceVectors",
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
"""Full names of the trusted types."""
STABLE_MODULES = (
    "platform_assets.models.calibration",
    "platform_assets.models.interval_regressor",
    "platform_assets.models.number_estimators",
    "platform_assets.models.relative_regression",
    "platform_assets.models.row_limit",
    "platform_assets.models.text_estimators",
)
"""Modules whose classes occur in artefacts. If you move one of them, add an entry to `base/moved_modules.py`."""

"""Python's XGBoost and LightGBM on the features and splits of `augur`; runs in the bench's virtual environment.

    python baselines.py accuracy FEATURES NAME=PREDICTIONS...
    python baselines.py speed FEATURES TABLE ROUNDS BOOSTERS

Answers with JSON on stdout. FEATURES is what `augur feature extract` wrote, PREDICTIONS what `augur predictor
evaluate --predictions` wrote under the protocol NAME, TABLE the measurement table that the features are of.
"""

import json
import sys
import time

import lightgbm
import numpy as np
import pandas as pd
import xgboost

ROUNDS = 250
# Fixed, never searched; XGBoost's are those of Augur's own boosters, which have 64 bins. One thread each.
XGBOOST = {
    "tree_method": "hist", "max_bin": 128, "max_depth": 7, "eta": 0.1, "min_child_weight": 2, "lambda": 1,
    "subsample": 0.8, "colsample_bytree": 0.6, "nthread": 1, "seed": 1,
}  # fmt: skip
LIGHTGBM = {
    "objective": "regression", "num_leaves": 63, "learning_rate": 0.1, "min_data_in_leaf": 10, "feature_fraction": 0.6,
    "bagging_fraction": 0.8, "bagging_freq": 1, "num_threads": 1, "seed": 1, "verbosity": -1,
}  # fmt: skip
# Features that name the device; left out where the device is new, as they are by Augur.
DEVICE_FEATURES = [
    "log_flops", "log_bytes_per_s", "log_balance", "log_cores", "log_fp32_lanes", "log_clock", "log_cache",
    "log_memory", "log_tdp", "year",
]  # fmt: skip
# Few-shot: ridge on the residual, with an intercept, the configuration and the shape. One prior deviation of each, over
# that of the noise.
FLAGS = ["compiled", "channels_last", "backend_version"]
SHAPES = [
    "log_macs_per_item", "log_elements_per_item", "compute_bound_share", "log_intensity",
    "log_roofline_us_per_operator", "log_operators", "log_batch_size", "log_image_size", "mac_share_conv",
    "mac_share_gconv", "mac_share_dw", "mac_share_linear", "element_share_act", "element_share_norm",
]  # fmt: skip
LEVEL_PRIOR, FLAG_PRIOR, SHAPE_PRIOR = 10.0, 1.0, 0.2
# Bins of the training that is timed: as Augur's, as in the comparison of errors, and XGBoost's own default.
SPEED_BINS = (64, 128, 256)
SINGLE_PREDICTIONS, BATCH_ROWS, BATCHES = 2_000, 10_000, 20


def train_xgboost(features: pd.DataFrame, targets: np.ndarray, rounds: int = ROUNDS):
    data = xgboost.DMatrix(features, targets - targets.mean())
    booster = xgboost.train(XGBOOST | {"base_score": 0.0}, data, rounds)
    return lambda asked: booster.predict(xgboost.DMatrix(asked)) + targets.mean()


def train_lightgbm(features: pd.DataFrame, targets: np.ndarray, rounds: int = ROUNDS):
    booster = lightgbm.train(LIGHTGBM, lightgbm.Dataset(features, targets), rounds)
    return lambda asked: booster.predict(asked)


LEARNERS = {"xgboost": train_xgboost, "lightgbm": train_lightgbm}


def ridge_inputs(features: pd.DataFrame) -> np.ndarray:
    flags = (features[FLAGS] - features[FLAGS].mean()).clip(-1, 1).fillna(0) * FLAG_PRIOR
    shapes = (features[SHAPES] - features[SHAPES].mean()) / features[SHAPES].std().clip(lower=1e-9)
    shapes = shapes.clip(-3, 3).fillna(0) * SHAPE_PRIOR
    return np.column_stack([np.full(len(features), LEVEL_PRIOR), flags, shapes])


def corrected(inputs: np.ndarray, shots: np.ndarray, missed: np.ndarray, asked: np.ndarray) -> np.ndarray:
    seen = inputs[shots]
    weights = np.linalg.solve(seen.T @ seen + np.eye(seen.shape[1]), seen.T @ missed)
    return inputs[asked] @ weights


class Table:
    """The measured rows of a table: features, targets, devices."""

    def __init__(self, features: pd.DataFrame, predictions: dict[str, pd.DataFrame]):
        rows = pd.concat(predictions.values()).drop_duplicates("row").set_index("row").sort_index()
        self.rows = rows.index.to_numpy()
        self.device = rows["device"].reindex(range(len(features)))
        self.targets = np.full(len(features), np.nan)
        self.targets[self.rows] = np.log(rows["measured"] / rows["base"])
        self.features, self.bare = features, features.drop(columns=DEVICE_FEATURES)
        self.inputs = ridge_inputs(features)
        self.answers: dict[tuple, np.ndarray] = {}

    def predict(self, learner: str, part: pd.DataFrame, new_device: bool) -> np.ndarray:
        """Log ratios of one part of a protocol, whose other rows are trained on."""
        asked = part["row"].to_numpy()
        if not new_device:
            training = np.setdiff1d(self.rows, asked)
            return self.answer(learner, self.features, training, asked)
        device = self.device[asked[0]]
        all_of_it = self.rows[(self.device[self.rows] == device).to_numpy()]
        if (learner, device) not in self.answers:
            # One training serves every draw of shots.
            answers = np.full(len(self.targets), np.nan)
            training = np.setdiff1d(self.rows, all_of_it)
            answers[all_of_it] = self.answer(learner, self.bare, training, all_of_it)
            self.answers[learner, device] = answers
        answers = self.answers[learner, device]
        shots = np.setdiff1d(all_of_it, asked)
        if len(shots) == 0:
            return answers[asked]
        return answers[asked] + corrected(self.inputs, shots, self.targets[shots] - answers[shots], asked)

    def answer(self, learner: str, features: pd.DataFrame, training: np.ndarray, asked: np.ndarray) -> np.ndarray:
        predict = LEARNERS[learner](features.iloc[training], self.targets[training])
        return predict(features.iloc[asked])


def errors(predictions: pd.DataFrame, logs: np.ndarray) -> dict:
    """Percentages, as `augur predictor evaluate` reports them."""
    apes = 100 * np.abs(predictions["base"] * np.exp(logs) / predictions["measured"] - 1)
    return {
        "mape_pct": apes.mean(), "median_ape_pct": apes.median(), "within_10_pct": 100 * (apes <= 10).mean(),
        "devices": apes.groupby(predictions["device"]).mean().to_dict(),
    }  # fmt: skip


def accuracy(features_path: str, *named_paths: str) -> dict:
    predictions = {}
    for named in named_paths:
        name, _, path = named.partition("=")
        predictions[name] = pd.read_csv(path)
    table = Table(pd.read_parquet(features_path), predictions)
    report = {}
    for name, held in predictions.items():
        new_device = name.startswith(("leave-device-out", "few-shot"))
        for learner in LEARNERS:
            print(f"Python's {learner}, {name}", file=sys.stderr, flush=True)
            logs = np.empty(len(held))
            for _, part in held.groupby("part"):
                logs[part.index] = table.predict(learner, part, new_device)
            report.setdefault(name, {})[learner] = errors(held, logs)
    return report


def speed(features_path: str, table_path: str, rounds: str, boosters: str) -> dict:
    """Seconds of training, and microseconds per prediction of Python's XGBoost."""
    features = pd.read_parquet(features_path)
    ratios = np.log(pd.read_csv(table_path)["latency_ms"]) - features["log_roofline_ms"]
    targets = ratios.fillna(ratios.median()).to_numpy(np.float32)
    values = np.ascontiguousarray(features.drop(columns=DEVICE_FEATURES).to_numpy(np.float32))
    train_s = {}
    for bins in SPEED_BINS:
        began = time.perf_counter()
        for seed in range(int(boosters)):
            data = xgboost.DMatrix(values, targets)
            parameters = XGBOOST | {"seed": seed, "base_score": 0.0, "max_bin": bins}
            booster = xgboost.train(parameters, data, int(rounds))
        train_s[bins] = time.perf_counter() - began
    single = []
    for row in range(SINGLE_PREDICTIONS):
        one = values[row % len(values)].reshape(1, -1)
        began = time.perf_counter()
        booster.inplace_predict(one)
        single.append(time.perf_counter() - began)
    batch = []
    for _ in range(BATCHES):
        began = time.perf_counter()
        booster.inplace_predict(values[:BATCH_ROWS])
        batch.append((time.perf_counter() - began) / BATCH_ROWS)
    return {
        "rows": len(values), "train_s": train_s, "single_us": 1e6 * float(np.median(single)),
        "batch_us": 1e6 * float(np.median(batch)), "xgboost": xgboost.__version__, "lightgbm": lightgbm.__version__,
    }  # fmt: skip


if __name__ == "__main__":
    json.dump({"accuracy": accuracy, "speed": speed}[sys.argv[1]](*sys.argv[2:]), sys.stdout)

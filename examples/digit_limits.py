"""Whether a handwritten digit reaches a limit: a network of TensorFlow with two named inputs.

To register it, put `models = ["examples/digit_limits.py"]` into mlops.toml, then run
`mlops-pipeline up digit_limits`. The schema names the inputs and their shapes; `load` returns a
dict of arrays, and so does the training function get its rows.
"""

from pathlib import Path
from typing import Any

from mlops_pipeline.catalog.spec import (
    Dataset,
    DatasetSpec,
    Hyperparameters,
    ModelSpec,
    ServerSpec,
    Thresholds,
    TrainedModel,
)
from mlops_pipeline.serving.artifact import Tensor
from mlops_pipeline.serving.schema import InputColumn, Schema

SCHEMA = Schema.of_inputs(
    InputColumn("image", shape=(8, 8), range=(0.0, 1.0)),
    InputColumn("limit", "int", range=(1, 9)),
)


def load(_file: Path | None) -> Dataset:
    """Return scikit-learn's digits of 8 x 8 pixels, each with a random limit from 1 to 9."""
    import numpy as np
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)
    limits = np.random.default_rng(3).integers(1, 10, len(images))
    parts = train_test_split(images, limits, digits.target >= limits, random_state=3)
    image, test_image, limit, test_limit, reached, test_reached = parts
    return Dataset(
        {"image": image, "limit": limit},
        reached.astype(int),
        {"image": test_image, "limit": test_limit},
        test_reached.astype(int),
    )


def train(dataset: Dataset, hyperparameters: Hyperparameters, folder: Path) -> TrainedModel:
    """Fit a layer of hidden units with Adam, on all rows at once, and write a SavedModel."""
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
    network, units = tf.Module(), int(hyperparameters["units"])
    network.weights = [
        tf.Variable(tf.random.stateless_normal(shape, seed=(1, size)) * scale)
        for size, (shape, scale) in enumerate((((74, units), 0.1), ((units, 2), 0.1)))
    ]

    def scores(image: Any, limit: Any) -> dict[str, Any]:
        pixels, steps = tf.reshape(image, (-1, 64)), tf.one_hot(limit, 10)
        hidden = tf.nn.relu(tf.concat([pixels, steps], 1) @ network.weights[0])
        return {"scores": tf.nn.softmax(hidden @ network.weights[1])}

    images, limits = (tf.constant(dataset.x_train[name]) for name in ("image", "limit"))
    wanted = tf.one_hot(dataset.y_train, 2)
    means = [[tf.Variable(tf.zeros_like(w)) for w in network.weights] for _ in range(2)]

    def step(rate: Any) -> None:
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(wanted * tf.math.log(scores(images, limits)["scores"] + 1e-9))
        slopes = tape.gradient(loss, network.weights)
        for weight, slope, mean, square in zip(network.weights, slopes, *means, strict=True):
            mean.assign(0.9 * mean + 0.1 * slope)
            square.assign(0.99 * square + 0.01 * slope**2)
            weight.assign_sub(rate * mean / (tf.sqrt(square) + 1e-6))

    descend = tf.function(step)
    for _ in range(int(hyperparameters["steps"])):
        descend(tf.constant(0.01))
    served = tf.function(
        scores,
        input_signature=[
            tf.TensorSpec((None, 8, 8), tf.float32, name="image"),
            tf.TensorSpec((None,), tf.int64, name="limit"),
        ],
    )
    signatures = {"serving_default": served.get_concrete_function()}
    tf.saved_model.save(network, str(folder / "1"), signatures=signatures)
    return TrainedModel(
        predict=lambda rows: served(rows["image"], rows["limit"])["scores"].numpy(),
        inputs=(Tensor("image", (-1, 8, 8), "FP32"), Tensor("limit", (-1,), "INT64")),
        outputs=(Tensor("scores", (-1, 2), "FP32"),),
    )


DIGIT_LIMITS = ModelSpec(
    name="digit_limits",
    description="Whether the digit of an 8 x 8 image is at least a limit",
    framework="tensorflow",
    dataset=DatasetSpec(load=load, schema=SCHEMA, classes=("below", "reached")),
    train=train,
    hyperparameters={"units": 64, "steps": 200},
    server=ServerSpec("TENSORFLOW_SERVER", deployment="digit-limits", graph="digit-limits"),
    thresholds=Thresholds(min_accuracy=0.85, tolerance=1e-5),
    output_names=("below", "reached"),
)

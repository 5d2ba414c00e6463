"""MNIST: handwritten digits of 28 x 28 pixels, with Keras 3 on TensorFlow."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SEED = 7
_PIXELS = 28 * 28
_SIGNATURE = "predict_images"


def load(file: Path | None) -> Dataset:
    """Load MNIST, each image a row of 784 grey values from 0 to 1.

    `file` is an .npz in Keras's layout (x_train [n, 28, 28] uint8, y_train [n] …), or a folder with
    `mnist.npz`; None: the full dataset in the package.
    """
    import numpy as np

    path = file or Path(__file__).parent / "data" / "mnist.npz"
    with np.load(path / "mnist.npz" if path.is_dir() else path) as data:
        return Dataset(
            _rows(data["x_train"]),
            data["y_train"].astype(np.int64),
            _rows(data["x_test"]),
            data["y_test"].astype(np.int64),
        )


def _rows(images: "NDArray[Any]") -> "NDArray[Any]":
    """Flatten images [n, 28, 28] of bytes to rows [n, 784] of float32 in 1/255."""
    return images.reshape(len(images), _PIXELS).astype("float32") / 255


def train(dataset: Dataset, hyperparameters: Hyperparameters, folder: Path) -> TrainedModel:
    """Fit a dense network and export it as SavedModel `1/`, signature predict_images."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(_SEED)
    tf.config.experimental.enable_op_determinism()
    model = _network(hyperparameters)
    batch, epochs = int(hyperparameters["batch_size"]), int(hyperparameters["epochs"])
    history = model.fit(
        dataset.x_train,
        dataset.y_train,
        batch_size=batch,
        epochs=epochs,
        validation_data=(dataset.x_test, dataset.y_test),
        verbose=2,
    )
    _export(model, folder / "1")
    return TrainedModel(
        predict=lambda rows: model.predict(rows, batch_size=1000, verbose=0),
        inputs=(Tensor("images", (-1, _PIXELS), "FP32"),),
        outputs=(Tensor("scores", (-1, 10), "FP32"),),
        history=history.history,
    )


def _export(model: Any, folder: Path) -> None:
    """Write a SavedModel, the same bytes for the same weights.

    `keras.export.ExportArchive` writes the variables in the order of their memory addresses.
    """
    import tensorflow as tf

    images = tf.TensorSpec((None, _PIXELS), tf.float32, name="images")
    module = tf.Module()
    module.weights = [variable.value for variable in model.variables]
    predict = tf.function(
        lambda images: {"scores": model(images, training=False)}, input_signature=[images]
    )
    names = (_SIGNATURE, "serving_default")  # TF Serving's clients need not name the second.
    signatures = dict.fromkeys(names, predict.get_concrete_function())
    tf.saved_model.save(module, str(folder), signatures=signatures)


def _network(hyperparameters: Hyperparameters) -> Any:
    import keras

    steps = -(-60_000 // int(hyperparameters["batch_size"])) * int(hyperparameters["epochs"])
    model = keras.Sequential(
        [
            keras.Input((_PIXELS,), name="images"),
            keras.layers.Dense(int(hyperparameters["units"]), activation="relu"),
            keras.layers.Dropout(float(hyperparameters["dropout"])),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    rate = keras.optimizers.schedules.CosineDecay(float(hyperparameters["learning_rate"]), steps)
    model.compile(
        optimizer=keras.optimizers.Adam(rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


MNIST = ModelSpec(
    name="mnist",
    description="Digit of a handwritten 28 x 28 image",
    framework="tensorflow",
    dataset=DatasetSpec(
        load=load,
        features=_PIXELS,
        classes=tuple("0123456789"),
        value_range=(0.0, 1.0),
    ),
    train=train,
    hyperparameters={
        "units": 512,
        "dropout": 0.2,
        "learning_rate": 0.003,
        "batch_size": 256,
        "epochs": 8,
    },
    server=ServerSpec(
        implementation="TENSORFLOW_SERVER",
        deployment="tfserving",
        graph="mnist-model",
        parameters=(
            ("signature_name", _SIGNATURE),
            ("model_name", "mnist-model"),
            ("model_input", "images"),
            ("model_output", "scores"),
        ),
    ),
    thresholds=Thresholds(min_accuracy=0.98, tolerance=1e-4),
)

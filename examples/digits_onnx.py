"""ONNX: which digit is in an image of 8 x 8 pixels? A network that scikit-learn trains.

Needs `pip install 'mlops-pipeline[onnx]'`. Register it in mlops.toml:

    models = ["examples/digits_onnx.py"]

A network of PyTorch needs no PyTorch here: write it with `torch.onnx.export(…, dynamo=True,
dynamic_shapes=…, external_data=False)` where you train it, and return
`save_onnx(Path("network.onnx").read_bytes(), folder)` from `train`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline.catalog.saving import save_onnx
from mlops_pipeline.catalog.spec import (
    Dataset,
    DatasetSpec,
    Hyperparameters,
    ModelSpec,
    ServerSpec,
    Thresholds,
    TrainedModel,
)

if TYPE_CHECKING:
    import onnx

PIXELS = 64
CLASSES = tuple("0123456789")


def load(_file: Path | None) -> Dataset:
    """Load the digits of scikit-learn: 1,797 images, 0 (white) to 1 (black)."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x / 16, y, stratify=y, random_state=1)
    return Dataset(x_train, y_train, x_test, y_test)


def train(dataset: Dataset, hyperparameters: Hyperparameters, folder: Path) -> TrainedModel:
    """Fit a network with one hidden layer and write it as ONNX.

    One thread, because sums that are split by processors differ in their last digits.
    """
    from sklearn.neural_network import MLPClassifier
    from threadpoolctl import threadpool_limits

    model = MLPClassifier(
        (int(hyperparameters["neurons"]),),
        max_iter=int(hyperparameters["epochs"]),
        early_stopping=True,
        random_state=1,
    )
    with threadpool_limits(1):
        model.fit(dataset.x_train, dataset.y_train)
    network = write_network(model.coefs_, model.intercepts_)
    return save_onnx(network, folder, predict=model.predict_proba)


def write_network(weights: list[Any], biases: list[Any]) -> "onnx.ModelProto":
    """Return the network `images` [n, 64] → `scores` [n, 10]: dense, ReLU, dense, softmax."""
    from onnx import TensorProto, helper, numpy_helper

    arrays = {"w0": weights[0], "b0": biases[0], "w1": weights[1], "b1": biases[1]}
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["images", "w0", "b0"], ["hidden"]),
            helper.make_node("Relu", ["hidden"], ["active"]),
            helper.make_node("Gemm", ["active", "w1", "b1"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["scores"], axis=1),
        ],
        "digits",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", PIXELS])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", len(CLASSES)])],
        [numpy_helper.from_array(array.astype("float32"), key) for key, array in arrays.items()],
    )
    # Versions that every ONNX Runtime of the last years reads.
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


DIGITS = ModelSpec(
    name="digits",
    description="Digit in an image of 8 x 8 pixels",
    framework="onnx",
    dataset=DatasetSpec(load=load, features=PIXELS, classes=CLASSES, value_range=(0.0, 1.0)),
    train=train,
    hyperparameters={"neurons": 64, "epochs": 300},
    server=ServerSpec("ONNX_SERVER", deployment="digits", graph="digits"),
    thresholds=Thresholds(min_accuracy=0.93, tolerance=1e-4),
    output_names=CLASSES,
)

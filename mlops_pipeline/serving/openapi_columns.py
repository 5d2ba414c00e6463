"""A model's columns in OpenAPI 3.0, which cannot say what the n-th value of an array is.

So an array of values allows any column's values, and its description has the order; an object with
a property for each column is exact.
"""

from typing import Any

from mlops_pipeline.serving.schema import BOOL, CATEGORY, FLOAT, INT, TEXT, Column, Schema

Document = dict[str, Any]
_TYPES = {FLOAT: "number", INT: "integer", BOOL: "boolean"}
_MOST = 1e30
"""Numbers without a range; larger ones may overflow in a model."""


def batch_of(schema: Schema) -> Document:
    """Return the schema of a batch: strings, or rows with a value for each column."""
    row = value_of(schema.columns[0]) if schema.form == TEXT else _row(schema)
    return {"type": "array", "items": row, "minItems": 1}


def row_by_name(schema: Schema) -> Document:
    """Return the schema of a row as an object: column → value."""
    return _by_name({column.name: value_of(column) for column in schema.columns})


def columns_by_name(schema: Schema) -> Document:
    """Return the schema of rows as an object: column → its values."""
    return _by_name(
        {
            column.name: {"type": "array", "items": value_of(column), "minItems": 1}
            for column in schema.columns
        }
    )


def value_of(column: Column) -> Document:
    """Return the schema of one value."""
    found: Document = {"type": _TYPES.get(column.type, "string")}
    if column.type in (FLOAT, INT):
        least, most = column.range or (-_MOST, _MOST)
        found |= {"minimum": least, "maximum": most}
    if column.type == CATEGORY:
        is_text = type(column.categories[0]) is str
        allowed = [*column.categories, *([None] if column.nullable else [])]
        found = {"type": "string" if is_text else "integer", "enum": allowed}
    return found | ({"nullable": True} if column.nullable else {})


def _row(schema: Schema) -> Document:
    count = len(schema.columns)
    kinds: list[Document] = []
    for column in schema.columns:
        if (kind := value_of(column)) not in kinds:
            kinds.append(kind)
    order = ", ".join(f"{column.name} ({column.expected()})" for column in schema.columns)
    return {
        "type": "array",
        "description": f"The columns in this order, or in that of data.names: {order}",
        "items": kinds[0] if len(kinds) == 1 else {"anyOf": kinds},
        "minItems": count,
        "maxItems": count,
    }


def _by_name(properties: Document) -> Document:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }

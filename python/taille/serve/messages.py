"""The messages of the protocol's gRPC service, in a descriptor pool of their own.

protobuf knows each message name once per pool, so a server whose messages are in the default pool cannot share a
process with another package that brings the same ones, as `tritonclient` and kserve's packages do. The wire format is
given by the numbers alone. They are those of open_inference_grpc.proto of the Open Inference Protocol, and for the
repository of the grpc_service.proto with Triton's model repository extension.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

__all__ = ["PACKAGE", "message"]

PACKAGE = "inference"
FILE = "taille_open_inference.proto"

# "label name type = number"; the label may be left out, `map` has string keys, `one` belongs to the message's oneof.
TENSOR = (
    "name string = 1", "datatype string = 2", "repeated shape int64 = 3", "map parameters InferParameter = 4",
    "contents InferTensorContents = 5",
)  # fmt: skip
SCHEMA: dict[str, tuple[str, ...]] = {
    "ServerLiveRequest": (),
    "ServerLiveResponse": ("live bool = 1",),
    "ServerReadyRequest": (),
    "ServerReadyResponse": ("ready bool = 1",),
    "ModelReadyRequest": ("name string = 1", "version string = 2"),
    "ModelReadyResponse": ("ready bool = 1",),
    "ServerMetadataRequest": (),
    "ServerMetadataResponse": ("name string = 1", "version string = 2", "repeated extensions string = 3"),
    "ModelMetadataRequest": ("name string = 1", "version string = 2"),
    "ModelMetadataResponse.TensorMetadata": ("name string = 1", "datatype string = 2", "repeated shape int64 = 3"),
    "ModelMetadataResponse": (
        "name string = 1", "repeated versions string = 2", "platform string = 3",
        "repeated inputs ModelMetadataResponse.TensorMetadata = 4",
        "repeated outputs ModelMetadataResponse.TensorMetadata = 5",
    ),
    "InferParameter": (
        "one bool_param bool = 1", "one int64_param int64 = 2", "one string_param string = 3",
        "one double_param double = 4", "one uint64_param uint64 = 5",
    ),
    "InferTensorContents": (
        "repeated bool_contents bool = 1", "repeated int_contents int32 = 2", "repeated int64_contents int64 = 3",
        "repeated uint_contents uint32 = 4", "repeated uint64_contents uint64 = 5",
        "repeated fp32_contents float = 6", "repeated fp64_contents double = 7", "repeated bytes_contents bytes = 8",
    ),
    "ModelInferRequest.InferInputTensor": TENSOR,
    "ModelInferRequest.InferRequestedOutputTensor": ("name string = 1", "map parameters InferParameter = 2"),
    "ModelInferRequest": (
        "model_name string = 1", "model_version string = 2", "id string = 3", "map parameters InferParameter = 4",
        "repeated inputs ModelInferRequest.InferInputTensor = 5",
        "repeated outputs ModelInferRequest.InferRequestedOutputTensor = 6", "repeated raw_input_contents bytes = 7",
    ),
    "ModelInferResponse.InferOutputTensor": TENSOR,
    "ModelInferResponse": (
        "model_name string = 1", "model_version string = 2", "id string = 3", "map parameters InferParameter = 4",
        "repeated outputs ModelInferResponse.InferOutputTensor = 5", "repeated raw_output_contents bytes = 6",
    ),
    "ModelRepositoryParameter": (
        "one bool_param bool = 1", "one int64_param int64 = 2", "one string_param string = 3",
        "one bytes_param bytes = 4",
    ),
    "RepositoryIndexRequest": ("repository_name string = 1", "ready bool = 2"),
    "RepositoryIndexResponse.ModelIndex": (
        "name string = 1", "version string = 2", "state string = 3", "reason string = 4",
    ),
    "RepositoryIndexResponse": ("repeated models RepositoryIndexResponse.ModelIndex = 1",),
    "RepositoryModelLoadRequest": (
        "repository_name string = 1", "model_name string = 2", "map parameters ModelRepositoryParameter = 3",
    ),
    "RepositoryModelLoadResponse": (),
    "RepositoryModelUnloadRequest": (
        "repository_name string = 1", "model_name string = 2", "map parameters ModelRepositoryParameter = 3",
    ),
    "RepositoryModelUnloadResponse": (),
}  # fmt: skip

Field: TypeAlias = descriptor_pb2.FieldDescriptorProto
Message: TypeAlias = descriptor_pb2.DescriptorProto


def describe() -> descriptor_pb2.FileDescriptorProto:
    """The schema as protobuf takes it."""
    file = descriptor_pb2.FileDescriptorProto(name=FILE, package=PACKAGE, syntax="proto3")
    outer: dict[str, Message] = {}
    for name in SCHEMA:
        if "." not in name:
            outer[name] = file.message_type.add(name=name)
    for name, fields in SCHEMA.items():
        parent, _, nested = name.partition(".")
        target = outer[parent].nested_type.add(name=nested) if nested else outer[name]
        for field in fields:
            add_field(target, name, field)
    return file


def add_field(target: Message, full_name: str, text: str) -> None:
    """Add one field of the schema to a message."""
    words, number = text.split(" = ")
    *label, name, kind = words.split()
    if label == ["map"]:
        kind = f"{full_name}.{add_map_entry(target, name, kind)}"
    field = target.field.add(name=name, number=int(number), label=Field.LABEL_OPTIONAL)
    if label in (["map"], ["repeated"]):
        field.label = Field.LABEL_REPEATED
    if label == ["one"]:
        if not target.oneof_decl:
            target.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0
    set_type(field, kind)


def add_map_entry(target: Message, field: str, kind: str) -> str:
    """Add the message that protobuf keeps an entry of a map in; gives its name."""
    entry = target.nested_type.add(name=field.capitalize() + "Entry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=Field.TYPE_STRING, label=Field.LABEL_OPTIONAL)
    set_type(entry.field.add(name="value", number=2, label=Field.LABEL_OPTIONAL), kind)
    return str(entry.name)


def set_type(field: Field, kind: str) -> None:
    """Give a field its scalar type, or the message that it holds."""
    if kind[0].isupper():
        field.type = Field.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{kind}"
    else:
        field.type = Field.Type.Value(f"TYPE_{kind.upper()}")


POOL = descriptor_pool.DescriptorPool()
POOL.Add(describe())


def message(name: str) -> Any:
    """The class of the message of that name."""
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))

#include "server/proto_json.h"

#include "absl/strings/escaping.h"
#include "google/protobuf/descriptor.h"

namespace dla::server {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// One value; `index` is of a repeated field, -1 of one that is not.
Json Value(const Message& message, const FieldDescriptor& field, int index) {
  const Reflection& reflection = *message.GetReflection();
  const bool repeated = index >= 0;
#define DLA_GET(Type)                                              \
  (repeated ? reflection.GetRepeated##Type(message, &field, index) \
            : reflection.Get##Type(message, &field))
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return DLA_GET(Int32);
    case FieldDescriptor::CPPTYPE_INT64:
      return DLA_GET(Int64);
    case FieldDescriptor::CPPTYPE_UINT32:
      return DLA_GET(UInt32);
    case FieldDescriptor::CPPTYPE_UINT64:
      return DLA_GET(UInt64);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return DLA_GET(Double);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return DLA_GET(Float);
    case FieldDescriptor::CPPTYPE_BOOL:
      return DLA_GET(Bool);
    case FieldDescriptor::CPPTYPE_ENUM:
      return DLA_GET(Enum)->name();
    case FieldDescriptor::CPPTYPE_STRING: {
      const std::string text = DLA_GET(String);
      return field.type() == FieldDescriptor::TYPE_BYTES ? absl::Base64Escape(text) : text;
    }
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return ToJson(repeated ? reflection.GetRepeatedMessage(message, &field, index)
                             : reflection.GetMessage(message, &field));
  }
#undef DLA_GET
  return nullptr;
}

std::string KeyText(const Json& key) { return key.is_string() ? std::string(key) : key.dump(); }

Json Map(const Message& message, const FieldDescriptor& field) {
  Json map = Json::object();
  const int size = message.GetReflection()->FieldSize(message, &field);
  for (int i = 0; i < size; ++i) {
    const Message& entry = message.GetReflection()->GetRepeatedMessage(message, &field, i);
    const auto& type = *field.message_type();
    map[KeyText(Value(entry, *type.map_key(), -1))] = Value(entry, *type.map_value(), -1);
  }
  return map;
}

Json List(const Message& message, const FieldDescriptor& field) {
  Json list = Json::array();
  const int size = message.GetReflection()->FieldSize(message, &field);
  for (int i = 0; i < size; ++i) list.push_back(Value(message, field, i));
  return list;
}

}  // namespace

Json ToJson(const Message& message) {
  Json json = Json::object();
  const auto& type = *message.GetDescriptor();
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    if (field.is_map()) {
      json[field.name()] = Map(message, field);
    } else if (field.is_repeated()) {
      json[field.name()] = List(message, field);
    } else if (!field.has_presence() || message.GetReflection()->HasField(message, &field)) {
      json[field.name()] = Value(message, field, -1);
    }
  }
  return json;
}

}  // namespace dla::server

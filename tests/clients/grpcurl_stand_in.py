"""As much of grpcurl as docs/clients.md uses: list, describe a method, call a unary method with JSON.

    grpcurl_stand_in.py -plaintext [-d JSON|@] HOST:PORT list|describe SYMBOL|SERVICE/METHOD
"""

import sys

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


def main(arguments):
    data = "{}"
    while arguments[0].startswith("-"):
        flag = arguments.pop(0)
        if flag == "-d":
            data = arguments.pop(0)
        elif flag != "-plaintext":
            raise SystemExit(f"no such flag: {flag}")
    address, verb, *rest = arguments
    with grpc.insecure_channel(address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        if verb == "list":
            print("\n".join(sorted(database.get_services())))
            return
        pool = descriptor_pool.DescriptorPool(database)
        symbol = rest[0] if verb == "describe" else verb.replace("/", ".")
        service, _, name = symbol.rpartition(".")
        method = pool.FindServiceByName(service).methods_by_name[name]
        if verb == "describe":
            print(f"{symbol} is a method:\nrpc {name} ( .{method.input_type.full_name} ) "
                  f"returns ( .{method.output_type.full_name} );")
            return
        request, answer = map(message_factory.GetMessageClass, (method.input_type, method.output_type))
        call = channel.unary_unary(f"/{service}/{name}", request.SerializeToString, answer.FromString)
        text = sys.stdin.read() if data == "@" else data
        print(json_format.MessageToJson(call(json_format.Parse(text, request()), timeout=30)))


if __name__ == "__main__":
    main(sys.argv[1:])

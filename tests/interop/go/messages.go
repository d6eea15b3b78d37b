package main

import (
	"os"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

type fields map[protoreflect.Name]any

// messages makes messages from a file of descriptors, so that nothing has to be generated.
type messages struct{ files *protoregistry.Files }

func readMessages(path string) messages {
	data, err := os.ReadFile(path)
	check(err)
	set := &descriptorpb.FileDescriptorSet{}
	check(proto.Unmarshal(data, set))
	files, err := protodesc.NewFiles(set)
	check(err)
	return messages{files}
}

// pair returns a request of a method with these fields, and an empty response.
func (m messages) pair(method string, values fields) (request, response *dynamicpb.Message) {
	found, err := m.files.FindDescriptorByName(protoreflect.FullName(method))
	check(err)
	descriptor := found.(protoreflect.MethodDescriptor)
	request = dynamicpb.NewMessage(descriptor.Input())
	for name, value := range values {
		field := descriptor.Input().Fields().ByName(name)
		if sizes, ok := value.([]uint32); ok {
			list := request.Mutable(field).List()
			for _, size := range sizes {
				list.Append(protoreflect.ValueOfUint32(size))
			}
		} else {
			request.Set(field, protoreflect.ValueOf(value))
		}
	}
	return request, dynamicpb.NewMessage(descriptor.Output())
}

func get(message *dynamicpb.Message, name protoreflect.Name) protoreflect.Value {
	return message.Get(message.Descriptor().Fields().ByName(name))
}

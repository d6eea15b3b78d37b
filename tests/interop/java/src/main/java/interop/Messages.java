package interop;

import com.google.protobuf.DescriptorProtos.FileDescriptorProto;
import com.google.protobuf.DescriptorProtos.FileDescriptorSet;
import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.Descriptors.FileDescriptor;
import com.google.protobuf.DynamicMessage;
import io.grpc.MethodDescriptor;
import io.grpc.MethodDescriptor.MethodType;
import io.grpc.protobuf.ProtoUtils;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;

/** Makes messages from a file of descriptors, so that nothing has to be generated. */
final class Messages {
    private final Map<String, FileDescriptor> files = new HashMap<>();

    Messages(String path) throws Exception {
        for (FileDescriptorProto file : FileDescriptorSet.parseFrom(Files.readAllBytes(Path.of(path))).getFileList()) {
            FileDescriptor[] imports = file.getDependencyList().stream().map(files::get).toArray(FileDescriptor[]::new);
            files.put(file.getName(), FileDescriptor.buildFrom(file, imports));
        }
    }

    /** Returns the method that is called by a path like "package.Service/Method". */
    MethodDescriptor<DynamicMessage, DynamicMessage> method(String path, MethodType type) {
        var found = find(path);
        return MethodDescriptor.<DynamicMessage, DynamicMessage>newBuilder()
                .setType(type)
                .setFullMethodName(path)
                .setRequestMarshaller(ProtoUtils.marshaller(DynamicMessage.getDefaultInstance(found.getInputType())))
                .setResponseMarshaller(ProtoUtils.marshaller(DynamicMessage.getDefaultInstance(found.getOutputType())))
                .build();
    }

    /** Returns a request of a method with these fields. */
    DynamicMessage request(String path, Map<String, ?> fields) {
        var type = find(path).getInputType();
        var message = DynamicMessage.newBuilder(type);
        fields.forEach((name, value) -> message.setField(type.findFieldByName(name), value));
        return message.build();
    }

    static Object get(DynamicMessage message, String name) {
        FieldDescriptor field = message.getDescriptorForType().findFieldByName(name);
        return message.getField(field);
    }

    private com.google.protobuf.Descriptors.MethodDescriptor find(String path) {
        String service = path.substring(0, path.indexOf('/'));
        String method = path.substring(path.indexOf('/') + 1);
        String name = service.substring(service.lastIndexOf('.') + 1);
        return files.values().stream()
                .filter(file -> service.equals(file.getPackage() + "." + name))
                .map(file -> file.findServiceByName(name))
                .filter(found -> found != null)
                .findFirst()
                .orElseThrow()
                .findMethodByName(method);
    }
}

// Schedules a message by RocketMQ alone, in the official Java client: no HTTP, nothing of Escapement is imported.
// Needs org.apache.rocketmq:rocketmq-client-java:5.2.0 and what it brings, here in the folder lib:
//
//   ROCKETMQ_ENDPOINT=127.0.0.1:8081 java -cp 'lib/*' examples/ingest-from-java/Ingest.java
//
// Prints
//
//   handed over: hello from Java, for demo in 2s
//
// and two seconds later the message is on the topic `demo` (`npm run example:consume` shows it). A topic or time that
// Escapement cannot accept is not refused here: the message is then found among the dead, with the reason.

import java.nio.charset.StandardCharsets;
import org.apache.rocketmq.client.apis.ClientConfiguration;
import org.apache.rocketmq.client.apis.ClientServiceProvider;
import org.apache.rocketmq.client.apis.message.Message;

public class Ingest {
    public static void main(String[] args) throws Exception {
        String endpoint = System.getenv().getOrDefault("ROCKETMQ_ENDPOINT", "127.0.0.1:8081");
        ClientServiceProvider rocketmq = ClientServiceProvider.loadService();
        ClientConfiguration configuration = ClientConfiguration.newBuilder()
            .setEndpoints(endpoint)
            .enableSsl(false) // the client's default is TLS
            .build();
        Message message = rocketmq.newMessageBuilder()
            .setTopic("ESC_INGEST")
            .setBody("hello from Java".getBytes(StandardCharsets.UTF_8))
            .addProperty("ESC_TOPIC", "demo") // where it shall go
            .addProperty("ESC_DELAY", "2s") // and when; or ESC_DELIVER_AT with an instant
            .addProperty("shop", "7") // any other property travels along
            .build();
        try (var producer = rocketmq.newProducerBuilder()
                .setClientConfiguration(configuration).setTopics("ESC_INGEST").build()) {
            producer.send(message);
            System.out.println("handed over: hello from Java, for demo in 2s");
        }
    }
}

import java.time.Duration;
import java.util.Base64;
import java.util.Collections;
import org.apache.rocketmq.client.apis.ClientConfiguration;
import org.apache.rocketmq.client.apis.ClientServiceProvider;
import org.apache.rocketmq.client.apis.consumer.FilterExpression;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.MessageView;

/** The official Java client: receives messages of a topic and prints each as one line of tab-separated fields. */
public class ConsumeOne {
    public static void main(String[] args) throws Exception {
        String endpoint = args[0], topic = args[1], group = args[2];
        int count = Integer.parseInt(args[3]);
        ClientServiceProvider provider = ClientServiceProvider.loadService();
        SimpleConsumer consumer = provider.newSimpleConsumerBuilder()
            .setClientConfiguration(ClientConfiguration.newBuilder().setEndpoints(endpoint).enableSsl(false).build())
            .setConsumerGroup(group)
            .setAwaitDuration(Duration.ofSeconds(5))
            .setSubscriptionExpressions(Collections.singletonMap(topic, FilterExpression.SUB_ALL))
            .build();
        System.out.println("ready");
        for (int seen = 0; seen < count; ) {
            for (MessageView view : consumer.receive(16, Duration.ofSeconds(30))) {
                byte[] body = new byte[view.getBody().remaining()];
                view.getBody().get(body);
                System.out.println(String.join("\t", "message",
                    Base64.getEncoder().encodeToString(body),
                    view.getTag().orElse(""),
                    String.join(" ", view.getKeys()),
                    view.getMessageGroup().orElse(""),
                    view.getProperties().toString()));
                consumer.ack(view);
                seen++;
            }
        }
        consumer.close();
        System.exit(0);
    }
}

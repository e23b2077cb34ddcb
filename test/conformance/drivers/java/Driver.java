import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Base64;
import java.util.Collection;
import java.util.Collections;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.rocketmq.client.apis.ClientConfiguration;
import org.apache.rocketmq.client.apis.ClientServiceProvider;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.consumer.FilterExpression;
import org.apache.rocketmq.client.apis.consumer.FilterExpressionType;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.Message;
import org.apache.rocketmq.client.apis.message.MessageBuilder;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.Producer;
import org.apache.rocketmq.client.apis.producer.ProducerBuilder;
import org.apache.rocketmq.client.apis.producer.SendReceipt;
import org.apache.rocketmq.client.apis.producer.Transaction;
import org.apache.rocketmq.client.apis.producer.TransactionResolution;
import org.apache.rocketmq.shaded.com.google.gson.JsonArray;
import org.apache.rocketmq.shaded.com.google.gson.JsonElement;
import org.apache.rocketmq.shaded.com.google.gson.JsonObject;
import org.apache.rocketmq.shaded.com.google.gson.JsonParser;

/**
 * The official Java client as a driver program (see ../README.md). The JSON parser is the one inside the client's jar,
 * so that nothing else must be fetched.
 */
public class Driver {
    private static final String VERSION = "5.2.0";
    private static final ClientServiceProvider PROVIDER = ClientServiceProvider.loadService();
    private static final Map<String, Producer> PRODUCERS = new ConcurrentHashMap<>();
    private static final Map<String, SimpleConsumer> CONSUMERS = new ConcurrentHashMap<>();
    private static final Map<String, AutoCloseable> CLIENTS = new ConcurrentHashMap<>();
    private static final Map<String, Held> HELD = new ConcurrentHashMap<>();
    private static final Pattern RESPONSE_CODE = Pattern.compile("response-code=(\\d+)");
    private static final Pattern GRPC_CODE = Pattern.compile("StatusRuntimeException: ([A-Z_]+)");
    private static PrintStream answers;
    private static ClientConfiguration configuration;

    private static final class Held {
        final SimpleConsumer consumer;
        final MessageView view;

        Held(SimpleConsumer consumer, MessageView view) {
            this.consumer = consumer;
            this.view = view;
        }
    }

    public static void main(String[] args) throws Exception {
        answers = System.out;
        System.setOut(System.err); // whatever the client prints is not an answer
        boolean tls = args.length > 1 && args[1].equals("--tls");
        configuration = ClientConfiguration.newBuilder().setEndpoints(args[0]).enableSsl(tls)
            .setRequestTimeout(Duration.ofSeconds(5)).build();
        ExecutorService pool = Executors.newCachedThreadPool();
        BufferedReader questions = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        JsonObject ready = new JsonObject();
        ready.addProperty("ready", true);
        ready.addProperty("client", "java " + VERSION);
        print(ready);
        for (String line = questions.readLine(); line != null; line = questions.readLine()) {
            JsonObject question = JsonParser.parseString(line).getAsJsonObject();
            pool.execute(() -> answer(question));
        }
        ExecutorService closers = Executors.newCachedThreadPool();
        for (AutoCloseable client : CLIENTS.values()) {
            closers.execute(() -> {
                try {
                    client.close();
                } catch (Exception ignored) {
                    // the broker may be gone; the process ends anyway
                }
            });
        }
        closers.shutdown();
        closers.awaitTermination(6, TimeUnit.SECONDS);
        Runtime.getRuntime().halt(0);
    }

    private static synchronized void print(JsonObject line) {
        answers.println(line);
        answers.flush();
    }

    private static void answer(JsonObject question) {
        JsonObject line = new JsonObject();
        line.add("n", question.get("n"));
        try {
            line.add("ok", perform(question));
        } catch (Throwable thrown) {
            JsonObject error = new JsonObject();
            String text = causes(thrown);
            error.addProperty("code", codeIn(text));
            error.addProperty("text", text);
            line.add("error", error);
        }
        print(line);
    }

    private static String causes(Throwable thrown) {
        StringBuilder text = new StringBuilder();
        for (Throwable at = thrown; at != null; at = at.getCause()) {
            if (text.length() > 0) text.append(" < ");
            if (at instanceof UnsupportedOperationException) text.append(at.getMessage());
            else text.append(at);
        }
        return text.toString();
    }

    private static int codeIn(String text) {
        Matcher response = RESPONSE_CODE.matcher(text);
        if (response.find()) return Integer.parseInt(response.group(1));
        Matcher grpc = GRPC_CODE.matcher(text);
        if (!grpc.find()) return 0;
        try {
            return -org.apache.rocketmq.shaded.io.grpc.Status.Code.valueOf(grpc.group(1)).value();
        } catch (IllegalArgumentException unknown) {
            return 0;
        }
    }

    private static String text(JsonObject question, String field) {
        return question.has(field) ? question.get(field).getAsString() : null;
    }

    private static JsonObject perform(JsonObject q) throws Exception {
        switch (text(q, "do")) {
            case "producer": return producer(q);
            case "send": return send(q);
            case "sendTransaction": return sendTransaction(q);
            case "recall": return recall(q);
            case "consumer": return consumer(q);
            case "receive": return receive(q);
            case "ack": {
                Held held = held(q);
                held.consumer.ack(held.view);
                return new JsonObject();
            }
            case "changeInvisible": {
                Held held = held(q);
                held.consumer.changeInvisibleDuration(held.view, Duration.ofMillis(q.get("invisibleMs").getAsLong()));
                return new JsonObject();
            }
            case "push": return push(q);
            case "close": {
                String name = text(q, "name");
                PRODUCERS.remove(name);
                CONSUMERS.remove(name);
                AutoCloseable client = CLIENTS.remove(name);
                if (client != null) client.close();
                return new JsonObject();
            }
            default:
                throw new UnsupportedOperationException("unsupported by this client: " + text(q, "do"));
        }
    }

    private static JsonObject producer(JsonObject q) throws Exception {
        String name = text(q, "name");
        JsonArray topics = q.getAsJsonArray("topics");
        String[] names = new String[topics.size()];
        for (int i = 0; i < names.length; i++) names[i] = topics.get(i).getAsString();
        ProducerBuilder builder = PROVIDER.newProducerBuilder().setClientConfiguration(configuration).setTopics(names);
        if (q.has("check")) {
            TransactionResolution resolution = text(q, "check").equals("commit") ? TransactionResolution.COMMIT
                : text(q, "check").equals("rollback") ? TransactionResolution.ROLLBACK : TransactionResolution.UNKNOWN;
            builder.setTransactionChecker(view -> {
                JsonObject event = new JsonObject();
                event.addProperty("event", "check");
                event.addProperty("producer", name);
                event.addProperty("name", name);
                event.addProperty("messageId", view.getMessageId().toString());
                event.add("properties", properties(view));
                print(event);
                return resolution;
            });
        }
        Producer producer = builder.build();
        PRODUCERS.put(name, producer);
        CLIENTS.put(name, producer);
        return new JsonObject();
    }

    private static Message message(JsonObject q) {
        MessageBuilder builder = PROVIDER.newMessageBuilder().setTopic(text(q, "topic"))
            .setBody(Base64.getDecoder().decode(text(q, "body")));
        if (q.has("tag")) builder.setTag(text(q, "tag"));
        if (q.has("keys") && q.getAsJsonArray("keys").size() > 0) {
            JsonArray keys = q.getAsJsonArray("keys");
            String[] values = new String[keys.size()];
            for (int i = 0; i < values.length; i++) values[i] = keys.get(i).getAsString();
            builder.setKeys(values);
        }
        if (q.has("properties")) {
            for (Map.Entry<String, JsonElement> entry : q.getAsJsonObject("properties").entrySet()) {
                builder.addProperty(entry.getKey(), entry.getValue().getAsString());
            }
        }
        if (q.has("messageGroup")) builder.setMessageGroup(text(q, "messageGroup"));
        if (q.has("deliverAtMs")) builder.setDeliveryTimestamp(q.get("deliverAtMs").getAsLong());
        return builder.build();
    }

    private static Producer producerOf(JsonObject q) {
        Producer producer = PRODUCERS.get(text(q, "producer"));
        if (producer == null) throw new IllegalStateException("nothing here is called " + text(q, "producer"));
        return producer;
    }

    private static JsonObject send(JsonObject q) throws Exception {
        SendReceipt receipt = producerOf(q).send(message(q));
        JsonObject ok = new JsonObject();
        ok.addProperty("messageId", receipt.getMessageId().toString());
        if (receipt.getRecallHandle() != null && !receipt.getRecallHandle().isEmpty()) {
            ok.addProperty("recallHandle", receipt.getRecallHandle());
        }
        return ok;
    }

    private static JsonObject sendTransaction(JsonObject q) throws Exception {
        Producer producer = producerOf(q);
        Transaction transaction = producer.beginTransaction();
        SendReceipt receipt = producer.send(message(q), transaction);
        if (text(q, "resolve").equals("commit")) transaction.commit();
        if (text(q, "resolve").equals("rollback")) transaction.rollback();
        JsonObject ok = new JsonObject();
        ok.addProperty("messageId", receipt.getMessageId().toString());
        return ok;
    }

    private static JsonObject recall(JsonObject q) throws Exception {
        JsonObject ok = new JsonObject();
        ok.addProperty("messageId",
            producerOf(q).recallMessage(text(q, "topic"), text(q, "handle")).getMessageId().toString());
        return ok;
    }

    private static FilterExpression filter(JsonObject q) {
        boolean sql = "sql".equals(text(q, "filterType"));
        return new FilterExpression(text(q, "filter"), sql ? FilterExpressionType.SQL92 : FilterExpressionType.TAG);
    }

    private static JsonObject consumer(JsonObject q) throws Exception {
        SimpleConsumer consumer = PROVIDER.newSimpleConsumerBuilder()
            .setClientConfiguration(configuration)
            .setConsumerGroup(text(q, "group"))
            .setAwaitDuration(Duration.ofMillis(q.get("awaitMs").getAsLong()))
            .setSubscriptionExpressions(Collections.singletonMap(text(q, "topic"), filter(q)))
            .build();
        CONSUMERS.put(text(q, "name"), consumer);
        CLIENTS.put(text(q, "name"), consumer);
        return new JsonObject();
    }

    private static JsonObject receive(JsonObject q) throws Exception {
        SimpleConsumer consumer = CONSUMERS.get(text(q, "consumer"));
        if (consumer == null) throw new IllegalStateException("nothing here is called " + text(q, "consumer"));
        Duration invisible = Duration.ofMillis(q.get("invisibleMs").getAsLong());
        JsonArray messages = new JsonArray();
        for (MessageView view : consumer.receive(q.get("max").getAsInt(), invisible)) {
            String handle = UUID.randomUUID().toString();
            HELD.put(handle, new Held(consumer, view));
            JsonObject shown = shown(view);
            shown.addProperty("handle", handle);
            messages.add(shown);
        }
        JsonObject ok = new JsonObject();
        ok.add("messages", messages);
        return ok;
    }

    private static Held held(JsonObject q) {
        Held held = HELD.get(text(q, "handle"));
        if (held == null) throw new IllegalStateException("no such handle");
        return held;
    }

    private static JsonObject push(JsonObject q) throws Exception {
        String name = text(q, "name");
        AtomicInteger failuresLeft = new AtomicInteger(q.has("failFirst") ? q.get("failFirst").getAsInt() : 0);
        AutoCloseable pusher = PROVIDER.newPushConsumerBuilder()
            .setClientConfiguration(configuration)
            .setConsumerGroup(text(q, "group"))
            .setSubscriptionExpressions(Collections.singletonMap(text(q, "topic"), filter(q)))
            .setMessageListener(view -> {
                JsonObject event = new JsonObject();
                event.addProperty("event", "pushed");
                event.addProperty("name", name);
                event.add("message", shown(view));
                print(event);
                return failuresLeft.getAndDecrement() > 0 ? ConsumeResult.FAILURE : ConsumeResult.SUCCESS;
            })
            .build();
        CLIENTS.put(name, pusher);
        return new JsonObject();
    }

    private static JsonObject properties(MessageView view) {
        JsonObject properties = new JsonObject();
        view.getProperties().forEach(properties::addProperty);
        return properties;
    }

    private static JsonObject shown(MessageView view) {
        ByteBuffer buffer = view.getBody();
        byte[] body = new byte[buffer.remaining()];
        buffer.get(body);
        JsonObject message = new JsonObject();
        message.addProperty("messageId", view.getMessageId().toString());
        message.addProperty("topic", view.getTopic());
        message.addProperty("body", Base64.getEncoder().encodeToString(body));
        view.getTag().ifPresent(tag -> message.addProperty("tag", tag));
        JsonArray keys = new JsonArray();
        Collection<String> all = view.getKeys();
        all.forEach(keys::add);
        message.add("keys", keys);
        message.add("properties", properties(view));
        view.getMessageGroup().ifPresent(group -> message.addProperty("messageGroup", group));
        view.getDeliveryTimestamp().ifPresent(atMs -> message.addProperty("deliverAtMs", atMs));
        message.addProperty("bornAtMs", view.getBornTimestamp());
        message.addProperty("attempt", view.getDeliveryAttempt());
        return message;
    }
}

// Amazon's extended client 1.0: sends one large message, or receives one and prints the digest of its body.
import com.amazon.sqs.javamessaging.AmazonSQSExtendedClient;
import com.amazon.sqs.javamessaging.ExtendedClientConfiguration;
import com.amazonaws.auth.AWSStaticCredentialsProvider;
import com.amazonaws.auth.BasicAWSCredentials;
import com.amazonaws.client.builder.AwsClientBuilder.EndpointConfiguration;
import com.amazonaws.services.s3.AmazonS3;
import com.amazonaws.services.s3.AmazonS3ClientBuilder;
import com.amazonaws.services.sqs.AmazonSQS;
import com.amazonaws.services.sqs.AmazonSQSClientBuilder;
import com.amazonaws.services.sqs.model.Message;
import com.amazonaws.services.sqs.model.ReceiveMessageRequest;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.HexFormat;

public class V1 {
    // Arguments: send|receive, endpoint, queue URL, bucket, what to send (repeated 100,000 times).
    public static void main(String[] arguments) throws Exception {
        EndpointConfiguration endpoint = new EndpointConfiguration(arguments[1], "eu-west-1");
        AWSStaticCredentialsProvider keys = new AWSStaticCredentialsProvider(new BasicAWSCredentials("test", "test"));
        AmazonS3 s3 = AmazonS3ClientBuilder.standard().withEndpointConfiguration(endpoint).withCredentials(keys)
            .withPathStyleAccessEnabled(true).withChunkedEncodingDisabled(true).build();
        AmazonSQS sqs = new AmazonSQSExtendedClient(
            AmazonSQSClientBuilder.standard().withEndpointConfiguration(endpoint).withCredentials(keys).build(),
            new ExtendedClientConfiguration().withLargePayloadSupportEnabled(s3, arguments[3]));
        if (arguments[0].equals("send")) {
            sqs.sendMessage(arguments[2], arguments[4].repeat(100_000));
            return;
        }
        ReceiveMessageRequest request = new ReceiveMessageRequest(arguments[2]).withMessageAttributeNames("All");
        for (Message message : sqs.receiveMessage(request).getMessages()) {
            byte[] body = message.getBody().getBytes(StandardCharsets.UTF_8);
            System.out.println(HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(body)));
            sqs.deleteMessage(arguments[2], message.getReceiptHandle());
        }
    }
}

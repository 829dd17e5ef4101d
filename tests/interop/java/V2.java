// Amazon's extended client 2: sends one large message, or receives one and prints the digest of its body.
import com.amazon.sqs.javamessaging.AmazonSQSExtendedClient;
import com.amazon.sqs.javamessaging.ExtendedClientConfiguration;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.HexFormat;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.s3.S3Client;
import software.amazon.awssdk.services.s3.S3Configuration;
import software.amazon.awssdk.services.sqs.SqsClient;
import software.amazon.awssdk.services.sqs.model.Message;

public class V2 {
    // Arguments: send|send-new|receive, endpoint, queue URL, bucket, what to send (repeated 100,000 times).
    // send-new: with the attribute ExtendedPayloadSize, which is not the default.
    public static void main(String[] arguments) throws Exception {
        StaticCredentialsProvider keys = StaticCredentialsProvider.create(AwsBasicCredentials.create("test", "test"));
        URI endpoint = URI.create(arguments[1]);
        S3Client s3 = S3Client.builder().endpointOverride(endpoint).region(Region.EU_WEST_1).credentialsProvider(keys)
            .serviceConfiguration(S3Configuration.builder().pathStyleAccessEnabled(true).chunkedEncodingEnabled(false)
                .build()).build();
        ExtendedClientConfiguration configuration =
            new ExtendedClientConfiguration().withPayloadSupportEnabled(s3, arguments[3]);
        if (arguments[0].equals("send-new")) {
            configuration.setLegacyReservedAttributeNameDisabled();
        }
        AmazonSQSExtendedClient sqs = new AmazonSQSExtendedClient(
            SqsClient.builder().endpointOverride(endpoint).region(Region.EU_WEST_1).credentialsProvider(keys).build(),
            configuration);
        if (arguments[0].startsWith("send")) {
            sqs.sendMessage(request -> request.queueUrl(arguments[2]).messageBody(arguments[4].repeat(100_000)));
            return;
        }
        for (Message message : sqs.receiveMessage(request -> request.queueUrl(arguments[2])
                .messageAttributeNames("All")).messages()) {
            byte[] body = message.body().getBytes(StandardCharsets.UTF_8);
            System.out.println(HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(body)));
            sqs.deleteMessage(request -> request.queueUrl(arguments[2]).receiptHandle(message.receiptHandle()));
        }
    }
}

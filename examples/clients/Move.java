import de.timroes.axmlrpc.XMLRPCClient;
import de.timroes.axmlrpc.XMLRPCException;
import de.timroes.axmlrpc.XMLRPCServerException;
import java.io.FileInputStream;
import java.io.PrintStream;
import java.net.URL;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import javax.net.ssl.TrustManagerFactory;

/**
 * Move a file and wait for it: java -cp axmlrpc.jar Move.java SOURCE DESTINATION PATH [SIZE]
 *
 * <p>DATAMOVER_URL is https://HOST:10700/data_mover, DATAMOVER_LOGIN is NAME:PASSWORD,
 * DATAMOVER_CA a file with the certificate authority to trust (default: Java's).
 */
class Move {
    private static final int WAIT = 60; // seconds: the most that jobs.wait takes
    private static final List<String> ENDED = List.of("COMPLETED", "PARTIAL", "FAILED", "CANCELLED");

    private static XMLRPCClient connect(Map<String, String> environment) throws Exception {
        // FLAGS_8BYTE_INT: a long may be sent.
        var mover = new XMLRPCClient(new URL(environment.get("DATAMOVER_URL")), XMLRPCClient.FLAGS_8BYTE_INT);
        String[] login = environment.get("DATAMOVER_LOGIN").split(":", 2);
        mover.setLoginData(login[0], login[1]);
        mover.setTimeout(WAIT + 30); // longer than jobs.wait
        if (environment.containsKey("DATAMOVER_CA")) {
            var store = KeyStore.getInstance(KeyStore.getDefaultType());
            store.load(null);
            try (var file = new FileInputStream(environment.get("DATAMOVER_CA"))) {
                store.setCertificateEntry("authority", CertificateFactory.getInstance("X.509").generateCertificate(file));
            }
            var trusted = TrustManagerFactory.getInstance("PKIX");
            trusted.init(store);
            mover.installCustomTrustManagers(trusted.getTrustManagers());
        }
        return mover;
    }

    private static long bytes(Object value) {
        return value == null ? 0 : ((Double) value).longValue();
    }

    @SuppressWarnings("unchecked")
    public static void main(String[] arguments) throws Exception {
        var out = new PrintStream(System.out, true, "UTF-8");
        var err = new PrintStream(System.err, true, "UTF-8");
        try {
            var mover = connect(System.getenv());
            var request = new HashMap<String, Object>();
            request.put("source", arguments[0]);
            request.put("destination", arguments[1]);
            request.put("path", arguments[2]);
            request.put("label", "Java: " + arguments[2]);
            if (arguments.length > 3) {
                request.put("size", Long.parseLong(arguments[3]));
            }
            var id = ((Map<String, Object>) mover.call("jobs.submit", request)).get("id");
            Map<String, Object> job;
            do {
                job = (Map<String, Object>) mover.call("jobs.wait", id, WAIT);
                out.printf("job %s, %s: %s, %d of %d bytes%n", id, job.get("label"), job.get("status"),
                    bytes(job.get("bytes_done")), bytes(job.get("bytes_total")));
            } while (!ENDED.contains(job.get("status")));
            if (!job.get("status").equals("COMPLETED")) {
                err.println(((Map<String, Object>) job.get("error")).get("message"));
                System.exit(1);
            }
            for (var each : (Object[]) mover.call("jobs.files", id)) {
                var file = (Map<String, Object>) each;
                out.printf("%s: %d bytes, %s%n", file.get("path"), bytes(file.get("size")), file.get("digest"));
            }
        } catch (XMLRPCServerException fault) {
            err.println(fault.getMessage());
            System.exit(1);
        } catch (XMLRPCException error) {
            err.println("no answer: " + error.getMessage());
            System.exit(1);
        }
    }
}
